"""A contestant of a benchmark that fails says how it ended."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

_json = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "runner.py"))["_json"]


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            r"ended by SIGKILL:\n\(it printed nothing\)",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"ended by SIGSEGV:\nFatal Python error"),
        ("print('the last words'); raise SystemExit(3)", r"ended by exit code 3:\nthe last words"),
        ("1 / 0", r"ended by exit code 1:\n(.|\n)*ZeroDivisionError"),
        ("pass", r"ended by exit code 0:\n\(it printed nothing\)"),
    ],
)
def test_a_contestant_that_fails_says_how_it_ended(code, end):
    with pytest.raises(SystemExit, match=end):
        _json([sys.executable, "-c", code])


def test_the_figures_are_what_is_printed_last():
    assert _json([sys.executable, "-c", 'print("warm"); print(\'{"per_second": 1.5}\')']) == {
        "per_second": 1.5
    }
