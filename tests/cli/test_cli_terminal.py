"""What only a terminal sees: tables, colour, questions, progress, Ctrl-C; and what must never reach one."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Runner, Terminal


def test_a_scan_is_a_table_in_colour(toy: Path, terminal: Callable[..., Terminal]) -> None:
    shell = terminal("persistence", "scan", "--backend", f"toy:{toy}")
    assert shell.finish() == 1
    assert "Anomalies" in shell.text
    assert "\x1b[31mcorrupt_line\x1b[0m" in shell.text
    assert "\x1b[31m1 anomaly found\x1b[0m" in shell.text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_what_turns_colour_off_on_a_terminal(
    run: Runner, toy: Path, terminal: Callable[..., Terminal], env: dict[str, str]
) -> None:
    run.env |= env
    shell = terminal("persistence", "scan", "--backend", f"toy:{toy}")
    assert shell.finish() == 1
    assert "\x1b" not in shell.text


def test_colour_can_be_forced_into_a_pipe(run: Runner, toy: Path) -> None:
    command = ("persistence", "scan", "--backend", f"toy:{toy}")
    assert "\x1b[31m" in run("--color", "always", *command, "-o", "table").stdout
    assert "\x1b[31m\x1b[1merror" in run("--color", "always", "persistence", "scan", "--path", "none").stderr


def test_a_hostile_path_is_escaped_in_an_error(run: Runner) -> None:
    done = run("persistence", "scan", "--path", "a\x1b[2J\nb\u202e")
    assert done.returncode == 3
    assert done.stderr.startswith("papyra: error: there is no file a\\x1b[2J\\nb\\u202e;")
    assert done.stderr.count("\n") == 1


def test_recover_asks_first_and_takes_no_for_an_answer(toy: Path, terminal: Callable[..., Terminal]) -> None:
    before = toy.read_text()
    shell = terminal("persistence", "recover", "--backend", f"toy:{toy}")
    shell.wait_for("1 anomaly found in the toy store: quarantine? [y/N]: ")
    shell.type("n\n")
    assert shell.finish() == 1
    assert "nothing was changed" in shell.text
    assert toy.read_text() == before


def test_ctrl_c_at_the_question_exits_with_130(toy: Path, terminal: Callable[..., Terminal]) -> None:
    before = toy.read_text()
    shell = terminal("persistence", "recover", "--backend", f"toy:{toy}")
    shell.wait_for("[y/N]: ")
    shell.interrupt()
    assert shell.finish() == 130
    assert "papyra: error: interrupted" in shell.text.replace("\x1b[31m\x1b[1m", "").replace("\x1b[0m", "")
    assert toy.read_text() == before


def test_ctrl_c_during_work_exits_with_130_and_closes_the_backend(
    toy: Path, terminal: Callable[..., Terminal]
) -> None:
    shell = terminal("persistence", "scan", "--backend", f"toy:{toy}?slow=600", progress=True)
    shell.wait_for("scanning")
    shell.type("\x03")
    assert shell.finish() == 130
    assert "Traceback" not in shell.text
    assert shell.text.rindex("\x1b[?25h") > shell.text.rindex("\x1b[?25l")  # the cursor is shown again
    assert toy.with_name("facts.toy.closed").exists()


def test_sigint_without_a_terminal_exits_with_130(run: Runner, toy: Path) -> None:
    reader, writer = os.pipe()
    process = run.start("inspect", "events", "--follow", "--backend", f"toy:{toy}", stdout=writer)
    os.close(writer)
    os.read(reader, 1)  # it has begun
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    os.close(reader)


def test_progress_is_drawn_past_a_second_and_only_on_a_terminal(
    run: Runner, toy: Path, terminal: Callable[..., Terminal]
) -> None:
    toy.write_text("event A 1\n")
    enough = toy.with_name("enough")
    command = ("persistence", "scan", "--backend", f"toy:{toy}?until={enough}", "--color", "never")
    shell = terminal(*command, progress=True)
    shell.wait_for("scanning")
    enough.touch()
    assert shell.finish() == 0
    first = re.search(r"⠋ scanning +(\d+:\d\d:\d\d)", shell.text)
    assert first is not None
    assert first[1] >= "0:00:01"
    assert shell.text.endswith("\x1b[?25h\r\x1b[1A\x1b[2Kclean\n")  # the cursor is back, the line gone
    assert run("persistence", "scan", "--backend", f"toy:{toy}?slow=1.3").stderr == ""


def test_quick_work_draws_no_progress(toy: Path, terminal: Callable[..., Terminal]) -> None:
    """Quick is what the test above says; here it is what a busy machine does in time, too."""
    toy.write_text("event A 1\n")
    shell = terminal("persistence", "scan", "--backend", f"toy:{toy}", "--color", "never")
    assert shell.finish() == 0
    assert shell.text == "clean\n"


def test_an_error_during_work_on_a_terminal_is_one_line(toy: Path, terminal: Callable[..., Terminal]) -> None:
    shell = terminal("persistence", "scan", "--backend", f"toy:{toy}?fail=denied", "--color", "never")
    assert shell.finish() == 3
    assert shell.text == "papyra: error: /x: Permission denied\n"
