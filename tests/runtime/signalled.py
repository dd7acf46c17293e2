"""Programs in processes of their own, to which tests send signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Program:
    """A process that has started to do what it was asked for."""

    def __init__(self, folder: Path, text: str, backend: str, what: str) -> None:
        (folder / "program.py").write_text(textwrap.dedent(text))
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "program.py", backend, what],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.read("ready")

    def read(self, expected: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{expected}\n"

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, list[str], str]:
        """Return the exit status, the lines that are left, and what went to stderr."""
        assert self.process.stdout is not None
        out = (
            self.process.stdout.readlines()
        )  # not `communicate`, which misses lines that are buffered already
        return self.process.wait(60), [line.rstrip() for line in out], self.errors.read_text()
