"""The rows that pykka, a library of actors on threads, can run."""

from __future__ import annotations

import json
import sys
import threading
import time

import pykka


class Sink(pykka.ThreadingActor):
    """Counts messages."""

    def on_receive(self, message):
        if isinstance(message, tuple):
            self.left, self.done = message
            return
        self.left -= 1
        if self.left == 0:
            self.done.set()


class Echo(pykka.ThreadingActor):
    """Answers."""

    def on_receive(self, message):
        return message


class Player(pykka.ThreadingActor):
    """Plays ping-pong."""

    def on_receive(self, message):
        if isinstance(message, tuple):
            self.peer, self.left, self.done = message
            return
        if self.left == 0:
            if self.done is not None:
                self.done.set()
            return
        self.left -= 1
        self.peer.tell(0)


def tell(n: int) -> dict[str, float]:
    """Send n messages from one sender to one actor."""
    ref = Sink.start()
    done = threading.Event()
    ref.tell((n, done))
    began = time.perf_counter()
    for _ in range(n):
        ref.tell(1)
    done.wait()
    return {"per_second": n / (time.perf_counter() - began)}


def ask(n: int) -> dict[str, float]:
    """Ask one actor n times, one after the other."""
    ref = Echo.start()
    ref.ask(0)
    began = time.perf_counter()
    for i in range(n):
        ref.ask(i)
    return {"per_second": n / (time.perf_counter() - began)}


def pingpong(n: int) -> dict[str, float]:
    """Play n round trips between two actors."""
    a, b = Player.start(), Player.start()
    done = threading.Event()
    a.tell((b, n, done))
    b.ask((a, n + 1, None))
    began = time.perf_counter()
    a.tell(0)
    done.wait()
    return {"per_second": n / (time.perf_counter() - began)}


if __name__ == "__main__":
    row, scale = sys.argv[1], int(sys.argv[2])
    print(json.dumps(globals()[row](scale)))
    pykka.ActorRegistry.stop_all()
