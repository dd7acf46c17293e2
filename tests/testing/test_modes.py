"""The mode of scripts/test_modes is the one that tests run in, and the processes that they start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio

async def main():
    loop = asyncio.get_running_loop()
    eager = getattr(asyncio, "eager_task_factory", None)
    print(type(loop).__module__.partition(".")[0], loop.get_debug(), loop.get_task_factory() is eager is not None)
"""


@pytest.fixture
def expected() -> str:
    mode = os.environ.get("TEST_MODE")
    debug = bool(sys.flags.dev_mode or os.environ.get("PYTHONASYNCIODEBUG"))
    assert debug or mode != "debug"
    return f"{'uvloop' if mode == 'uvloop' else 'asyncio'} {debug} {mode == 'eager'}\n"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_loop_of_tests_is_the_one_of_the_mode(
    anyio_backend: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    exec(PROGRAM, names)
    main = names["main"]
    assert callable(main)
    await main()
    assert capsys.readouterr().out == expected


def test_processes_of_tests_take_the_mode_too(expected: str) -> None:
    command = [sys.executable, "-c", f"{PROGRAM}\nasyncio.run(main())"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert done.stdout == expected
