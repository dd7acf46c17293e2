"""The root: lazy commands, versions, misspellings, broken plugins, completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import Result

from papyra_cli import ExitCode
from papyra_cli._click.registry import OWN_COMMANDS, load_command
from papyra_cli._main import papyra

from .conftest import Runner, Site


def test_own_commands_are_declared_as_entry_points_too() -> None:
    declared = {
        point.name: point.value
        for point in entry_points(group="papyra.commands")
        if point.dist is not None and point.dist.name == "papyra-cli"
    }
    assert declared == {name: own.target for name, own in OWN_COMMANDS.items()}


@pytest.mark.parametrize("name", OWN_COMMANDS)
def test_the_short_help_that_is_shown_without_loading_is_the_command_s_own(name: str) -> None:
    command = load_command(name)
    assert isinstance(command, click.Command)
    assert command.get_short_help_str(200) == OWN_COMMANDS[name].help


def test_help_loads_no_command_and_nothing_that_is_slow(run: Runner, toy: Path) -> None:
    probe = (
        "import sys\nfrom papyra_cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    environment = run.environment | {"TEST_MODE": ""}  # which would load asyncio
    done = subprocess.run(
        [sys.executable, "-c", probe, "--help"], capture_output=True, text=True, env=environment
    )
    assert "hello" in done.stdout
    loaded = set(done.stderr.splitlines())
    unwanted = ("rich", "orjson", "trio", "redis", "sqlite3", "papyra_json", "papyra_contrib", "toy_commands")
    assert not loaded & set(unwanted)
    assert not [
        name for name in loaded if name.startswith(("papyra_cli.commands", "papyra.", "anyio", "asyncio"))
    ]


def test_help_names_the_distribution_of_a_third_party_command_even_if_it_is_broken(
    run: Runner, toy: Path
) -> None:
    shown = run("--help").stdout
    assert "hello        (from papyra-toy 1.0)" in shown
    assert "missing      (from papyra-toy 1.0)" in shown


def test_a_third_party_command_runs(invoke: Callable[..., Result], toy: Path) -> None:
    done = invoke("hello")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "hello from toy\n", "")


def test_a_broken_command_is_one_line_and_exit_code_3(invoke: Callable[..., Result], toy: Path) -> None:
    done = invoke("missing")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == (
        "papyra: error: the plugin 'missing' of papyra-toy 1.0 is broken: importing toy_nowhere:command "
        "raised ModuleNotFoundError: No module named 'toy_nowhere'\n"
    )
    odd = invoke("odd")
    assert (odd.exit_code, odd.stderr.count("\n")) == (3, 1)
    assert "is not a click.Command" in odd.stderr


def test_a_failing_command_is_one_line_with_nothing_that_steers_a_terminal(
    invoke: Callable[..., Result], toy: Path
) -> None:
    done = invoke("boom")
    assert done.exit_code == 1
    assert done.stderr == (
        "papyra: error: unexpected: RuntimeError: first line\\nsecond \\x1b[31m line (--debug shows where)\n"
    )
    debug = invoke("--debug", "boom")
    assert "Traceback (most recent call last)" in debug.stderr
    assert "\x1b" not in debug.stderr


def test_own_commands_win_and_do_not_need_to_be_allowed(invoke: Callable[..., Result], site: Site) -> None:
    site.add("thief", "[papyra.commands]\npersistence = thief:x\nplugins = thief:x\n")
    done = invoke("persistence", "scan", "--backend", "memory:", PAPYRA_PLUGINS="")
    assert (done.exit_code, done.stdout) == (0, "status\tclean\n")


def test_a_command_that_is_not_allowed_says_why(invoke: Callable[..., Result], toy: Path) -> None:
    done = invoke("hello", PAPYRA_PLUGINS="toy")
    assert done.exit_code == 3
    assert "is not in PAPYRA_PLUGINS" in done.stderr
    assert invoke("hello", PAPYRA_PLUGINS="papyra-toy").exit_code == 0


def test_one_malformed_distribution_harms_nothing(
    invoke: Callable[..., Result], toy: Path, site: Site
) -> None:
    site.add("broken-metadata", "[papyra.commands]\nno equals sign\n")
    site.add("no-name", "[papyra.commands]\nnameless = toy_commands:hello\n")
    (site.folder / "no_name-1.0.dist-info").mkdir()
    (site.folder / "no-name-1.0.dist-info" / "METADATA").unlink()
    shown = invoke("--help").stdout
    assert "hello" in shown
    assert "nameless     (from an unknown distribution)" in shown
    assert invoke("hello").exit_code == 0


def test_version(invoke: Callable[..., Result]) -> None:
    done = invoke("--version")
    assert (done.exit_code, done.stdout) == (0, "papyra 0.4.0\n")


def test_a_program_that_calls_it_gets_its_code_and_its_errors() -> None:
    assert papyra.main(["--version"], standalone_mode=False) == 0
    with pytest.raises(click.UsageError, match="no such option '--bogus'"):
        papyra.main(["--bogus"], standalone_mode=False)


@pytest.mark.parametrize("argv", [[], ["persistence"], ["inspect"]])
def test_no_command_is_a_usage_error_that_shows_the_help(
    invoke: Callable[..., Result], argv: list[str]
) -> None:
    done = invoke(*argv)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["persistance"], "no such command 'persistance', did you mean 'persistence'?; see 'papyra --help'"),
        (
            ["persistence", "scam"],
            "no such command 'scam', did you mean 'scan'?; see 'papyra persistence --help'",
        ),
        (["--bogus"], "--bogus"),
        (["persistence", "scan", "--bogus"], "see 'papyra persistence scan --help'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    invoke: Callable[..., Result], argv: list[str], text: str
) -> None:
    done = invoke(*argv)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr


def test_exit_codes_are_a_contract() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "NO": 1,
        "USAGE": 2,
        "UNAVAILABLE": 3,
        "NOT_RECOVERED": 4,
        "INTERRUPTED": 130,
    }
