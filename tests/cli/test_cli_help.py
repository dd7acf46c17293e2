"""`--help` of every command is a manual page: options with defaults, lines, exit codes, and examples that
run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import click
import pytest
from click.testing import CliRunner, Result

from papyra.persistence import open_backend
from papyra.persistence.models import PersistedEvent
from papyra_cli import ExitCode
from papyra_cli._click.commands import ManualMixin
from papyra_cli._click.registry import OWN_COMMANDS, load_command
from papyra_cli._main import papyra

from .conftest import Runner


def _below(command: ManualMixin, path: tuple[str, ...]) -> Iterator[tuple[str, ManualMixin]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            assert isinstance(inner, ManualMixin)
            yield from _below(inner, (*path, name))


def _all_commands() -> dict[str, ManualMixin]:
    found = {"": papyra}
    for name in OWN_COMMANDS:
        command = load_command(name)
        assert isinstance(command, ManualMixin)
        found.update(_below(command, (name,)))
    return found


COMMANDS = _all_commands()
LIVE = (
    "top",
    "tree",
    "metrics application",
)  # these need a running system: tests/watch/test_top.py runs them
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
EXAMPLES = [
    pytest.param(line, id=line)
    for line in dict.fromkeys(
        line for path, each in LEAVES.items() if path not in LIVE for line, _ in each.examples
    )
]
REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")


def help_of(path: str) -> str:
    done = CliRunner().invoke(papyra, [*path.split(), "--help"], terminal_width=80)
    assert done.exit_code == 0
    return str(done.stdout)


def test_all_commands_of_the_contract_are_there() -> None:
    assert set(LEAVES) == {
        *(
            f"persistence {name}"
            for name in (
                "scan",
                "recover",
                "compact",
                "inspect",
                "startup-check",
                "copy",
                "backup",
                "restore",
            )
        ),
        *(f"inspect {name}" for name in ("events", "audits", "dead-letters", "summary", "runs", "actor")),
        *(
            "doctor run",
            "metrics persistence",
            "plugins",
            "config view",
            "top",
            "tree",
            "metrics application",
        ),
    }


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example_and_names_the_command(path: str) -> None:
    text = help_of(path)
    command = COMMANDS[path]
    assert "Examples:" in text
    for line, explanation in command.examples:
        assert f"  # {explanation}\n  {line}\n" in text
        assert len(line) < 79
        assert path == "" or any(f"papyra {p}" in line for p in (path, path.replace(" ", " -o json ")))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("path", LEAVES)
def test_help_says_exit_codes_lines_and_defaults(path: str) -> None:
    text = help_of(path)
    command = LEAVES[path]
    codes = {int(code) for code in re.findall(r"^  (\d+) ", text.partition("Exit codes:")[2], re.MULTILINE)}
    opens_a_store = path in LIVE or any(param.name in ("backend", "source") for param in command.params)
    expected = {ExitCode.OK, ExitCode.NO, ExitCode.USAGE, ExitCode.INTERRUPTED}
    assert codes - {ExitCode.NOT_RECOVERED} == expected | ({ExitCode.UNAVAILABLE} if opens_a_store else set())
    assert "Lines in a pipe" in text
    flat = " ".join(text.split())
    for param in command.params:
        if isinstance(param, click.Argument):
            continue
        assert isinstance(param, click.Option)
        assert param.help
        if not param.is_flag and param.name not in WITHOUT_DEFAULT:
            _, _, rest = flat.partition(param.opts[-1] + " ")
            assert "[default:" in rest.partition(" --")[0] or "[default:" in rest[:300], (
                f"--{param.name} says no default: add show_default, or its name to WITHOUT_DEFAULT"
            )


WITHOUT_DEFAULT = (
    "type",
    "actor",
    "run",
    "backend",
    "system",
    "pid",
    "socket",
)  # without it, nothing is left out


@pytest.mark.parametrize("path", LEAVES)
def test_the_reference_names_the_columns_of_the_lines(path: str) -> None:
    for word, columns in LEAVES[path].lines.items():
        if word != "status" and (path, word) != ("inspect summary", "audit"):  # that one is "as above"
            assert f"| `{word}` | {', '.join(columns)} |" in REFERENCE, word


@pytest.mark.parametrize("path", [path for path in LEAVES if path not in LIVE])
def test_what_is_printed_into_a_pipe_is_what_the_help_says(
    sample: Path, invoke: Callable[..., Result], path: str
) -> None:
    """Every line begins with a word that the help names, and has as many columns."""
    store = ("--path", "papyra.ndjson") if any(p.name == "backend" for p in LEAVES[path].params) else ()
    yes = {"persistence recover": ("--yes",), "inspect actor": ("shop:1",)}.get(path, ())
    with sample.open("a") as file:
        file.write("nonsense\n" if path != "persistence compact" else "")
    if any(param.name == "source" for param in LEAVES[path].params):
        store = ("papyra.ndjson", "target.ndjson")
    lines = invoke(*path.split(), *store, *yes).stdout.splitlines()
    known = LEAVES[path].lines
    for line in lines:
        word, *cells = line.split("\t")
        assert word in known
        assert len(cells) == len(known[word]), line
    assert {line.split("\t")[0] for line in lines} >= {"status"}


@pytest.fixture
def folder(run: Runner, sample: Path) -> Path:
    """Bring the stores that the examples speak of."""

    async def fill() -> None:
        backend = open_backend(f"sqlite:{run.folder / 'papyra.db'}")
        await backend.record_event(PersistedEvent("s", "s:1", "A", {}, 1.0))
        await backend.aclose()

    anyio.run(fill)
    run.env["PAPYRA_PERSISTENCE"] = "json:./papyra.ndjson"
    return run.folder


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_run(folder: Path, run: Runner, invoke: Callable[..., Result], line: str) -> None:
    words = shlex.split(line)
    env = {}
    if "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    assert words.pop(0) == "papyra"
    if "--follow" in words:
        process = run.start(*words, stdout=-1, stderr=-1)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(2)
        process.communicate(timeout=120)
        assert process.returncode == ExitCode.INTERRUPTED
        return
    done = invoke(*words, **env)
    # Whether all plugins are ok depends on what is installed beside.
    assert done.exit_code in ((0, 1) if "--check" in words else (0,)), done.output
    assert "error" not in done.stderr
    assert done.stdout


def test_a_group_lists_its_commands_with_whole_sentences() -> None:
    for path, command in COMMANDS.items():
        if isinstance(command, click.Group):
            assert "..." not in help_of(path).partition("Commands:")[2].partition("Examples:")[0]
