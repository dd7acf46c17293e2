"""Run the command in a process of its own that has loaded it already: a fork of one that waits for that.

Most of the time of a short command is spent on loading Python and its modules. A fork differs from a start by
hand in what is loaded before the command looks at its environment; variables that Python itself reads need a
real start. Set REAL_COMMAND=1 to start every command for real.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

_MODULES = [
    "asyncio",
    "anyio._backends._asyncio",
    "decimal",
    "email.parser",
    "papyra.system",
    "papyra_cli._main",
    "papyra_cli._store.session",
    "papyra_cli._output.records",
    "papyra_cli.commands.config",
    "papyra_cli.commands.doctor",
    "papyra_cli.commands.inspect",
    "papyra_cli.commands.inspect.summary",
    "papyra_cli.commands.metrics",
    "papyra_cli.commands.persistence",
    "papyra_cli.commands.plugins",
    "papyra_contrib.sqlite",
    "papyra_contrib.redis",
    "papyra_contrib.postgres",
    "papyra_json",
    "opentelemetry.sdk.metrics",
    "prometheus_client",
    "redis.asyncio",
    "psycopg",
    "nats",
]
_MODES = str(Path(__file__).parents[1] / "_modes")  # the server has it, too
_READ_BY_PYTHON = ("PYTHON", "LANG", "LC_", "LD_", "COVERAGE", "COV_")


class ForkServer:
    """A process that has imported the command; each request makes a fork of it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        self._fixed = _read_by_python(environment)
        self._busy = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._unread = b""
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait()

    def run(
        self, argv: list[str], stdin: str, folder: Path, environment: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str] | None:
        """Return what the command printed and its exit code; None if it needs a start of its own."""
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        process = self._start(argv, folder, environment, theirs, [])
        for descriptor in theirs:
            os.close(descriptor)
        if process is None:
            for descriptor in (pipes[0][1], pipes[1][0], pipes[2][0]):
                os.close(descriptor)
            return None
        try:
            printed = _communicate(pipes[0][1], stdin, [pipes[1][0], pipes[2][0]], seconds)
        except TimeoutError:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(argv, seconds) from None
        texts = [text.decode("utf-8").replace("\r\n", "\n") for text in printed]
        return subprocess.CompletedProcess(argv, process.wait(), *texts)

    def start_on_terminal(
        self, argv: list[str], folder: Path, environment: dict[str, str], terminal: int, *, patient: bool
    ) -> Forked | None:
        """Start a command that has the terminal for itself; None if it needs a start of its own.

        One that is patient takes no work for long, however busy the machine is.
        """
        words = ["terminal", "patient"] if patient else ["terminal"]
        return self._start(argv, folder, environment, [terminal] * 3, words)

    def _start(
        self,
        argv: list[str],
        folder: Path,
        environment: dict[str, str],
        descriptors: list[int],
        words: list[str],
    ) -> Forked | None:
        if _read_by_python(environment) != self._fixed or _customizes(environment):
            return None
        if not self._busy.acquire(blocking=False):
            return None
        request = json.dumps([argv, str(folder), environment, words]).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self._socket.sendmsg([len(request).to_bytes(4, "big")], rights)
        self._socket.sendall(request)
        return Forked(self, argv, int(self.reply()))

    def reply(self, seconds: float | None = None) -> bytes:
        """Return the next line of the process, or nothing if it has none within the time."""
        while b"\n" not in self._unread:
            if not select.select([self._socket], [], [], seconds)[0]:
                return b""
            block = self._socket.recv(4096)
            assert block, "the process has ended"
            self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def make_free(self) -> None:
        """Take the next command from now on."""
        self._busy.release()


class Forked:
    """A command that runs, with the methods of a `subprocess.Popen` that are needed."""

    def __init__(self, server: ForkServer, argv: list[str], pid: int) -> None:
        self._server, self._argv, self._pid = server, argv, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self._argv, timeout or 0.0)
        return code

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._pid, signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self._code is None and (line := self._server.reply(seconds)):
            self._code = int(line)
            self._server.make_free()
        return self._code


def _read_by_python(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_BY_PYTHON) and name != "PYTHONPATH"
    }


def _customizes(environment: dict[str, str]) -> bool:
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    return any(Path(folder, "sitecustomize.py").exists() for folder in folders if folder not in ("", _MODES))


def _communicate(stdin: int, text: str, outputs: list[int], seconds: float) -> list[bytes]:
    deadline = time.monotonic() + seconds
    with contextlib.suppress(BrokenPipeError), open(stdin, "wb") as file:
        file.write(text.encode())
    found = dict.fromkeys(outputs, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in outputs:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready and time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                block = os.read(key.fd, 65536)
                found[key.fd] += block
                if not block:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(found.values())


def _serve(control: socket.socket) -> None:
    import gc

    gc.freeze()
    while True:
        header, descriptors, _, _ = socket.recv_fds(control, 4, 3)
        if not header:
            return
        length, request = int.from_bytes(header, "big"), b""
        while len(request) < length:
            request += control.recv(length - len(request))
        pid = os.fork()
        if not pid:
            control.close()
            _become(descriptors, *json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)
        control.sendall(b"%d\n" % pid)
        control.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _become(
    descriptors: list[int], argv: list[str], folder: str, environment: dict[str, str], words: list[str]
) -> None:
    code = 70
    try:
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        if "terminal" in words:
            _own_terminal()
        if "patient" in words:
            from papyra_cli._click import completion
            from papyra_cli._output import progress

            completion._MAX_SECONDS = progress._SILENCE_SECONDS = 600.0
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        before = [name for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]
        sys.path[:0] = before
        sys.argv = argv
        from papyra_cli import main

        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        import gc

        gc.collect()  # what was left open is a warning here, and a line on stderr
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _own_terminal() -> None:
    """Let Ctrl-C, typed, be a SIGINT to this process, and its streams be what Python opens on a terminal."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin, sys.stdout, sys.stderr = (
        open(fd, mode, encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115 - for good
        for fd, mode, stream in ((0, "r", sys.stdin), (1, "w", sys.stdout), (2, "w", sys.stderr))
    )


def _load() -> None:
    """Import what commands import."""
    sys.path.pop(0)  # the folder of this file
    from importlib import import_module

    for name in _MODULES:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            import_module(name)


if __name__ == "__main__":
    _load()
    with socket.socket(fileno=int(sys.argv[1])) as _control:
        _serve(_control)
