"""A hundred clients of an admin socket that do no good, until they are killed: ``_hostile_clients.py PATH``.

It writes a line once they have connected a hundred times.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable

COUNT = 100
PATIENCE_SECONDS = 30.0
BIG = [
    {"op": "top", "limit": 500},
    {"op": "top", "by": "processed", "limit": 500, "offset": 7},
    {"op": "tree", "all": True, "limit": 500},
    {"op": "events", "limit": 500, "actor": "nobody-*", "bars": True},
    {"op": "overview"},
    {"op": "scrape"},
]


def big_requests() -> bytes:
    return b"".join(json.dumps({"id": n, **request}).encode() + b"\n" for n, request in enumerate(BIG))


def silent(client: socket.socket) -> None:
    client.recv(100_000)
    client.recv(1)


def half_a_line(client: socket.socket) -> None:
    client.sendall(b'{"id": 1, "op": "over')
    silent(client)


def garbage(client: socket.socket) -> None:
    for line in (b"garbage\n", b"[" * 5000 + b"\n", b"\xff\x00\n", b'{"op": "top", "limit": -1}\n') * 1000:
        client.sendall(line)
        if not client.recv(100_000):
            return


def a_long_line(client: socket.socket) -> None:
    client.sendall(b"x" * 1_000_000 + b"\n")


def an_endless_line(client: socket.socket) -> None:
    while True:
        client.sendall(b"x" * 50_000)


def reads_nothing(client: socket.socket) -> None:
    while True:
        client.sendall(big_requests())


def reads_all(client: socket.socket) -> None:
    while True:
        client.sendall(big_requests())
        for _ in range(len(BIG)):
            while not client.recv(1_000_000).endswith(b"\n"):
                pass


def comes_and_goes(client: socket.socket) -> None:
    pass


KINDS = (
    silent,
    half_a_line,
    garbage,
    a_long_line,
    an_endless_line,
    reads_nothing,
    reads_all,
    comes_and_goes,
)


def again_and_again(path: str, act: Callable[[socket.socket], None], connected: threading.Semaphore) -> None:
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_SECONDS)
            try:
                client.connect(path)
                connected.release()
                act(client)
            except OSError:
                time.sleep(0.001)  # refused, closed, or nobody there


def main() -> None:
    os.nice(19)
    connected = threading.Semaphore(0)
    for number in range(COUNT):
        arguments = (sys.argv[1], KINDS[number % len(KINDS)], connected)
        threading.Thread(target=again_and_again, args=arguments, daemon=True).start()
    for _ in range(COUNT):
        connected.acquire()
    print("all", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
