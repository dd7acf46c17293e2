"""Shell completion, asked as a shell asks, and in a real bash."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import Result

from papyra_cli._click.completion import _offered
from papyra_cli._click.shell_scripts import _joined

from .conftest import Runner, Site

Complete: TypeAlias = Callable[..., list[str]]


@pytest.fixture
def complete(invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Complete as long as a busy machine needs: completion itself gives up on a store after half a second."""
    monkeypatch.setattr("papyra_cli._click.completion._MAX_SECONDS", 600.0)
    return partial(completed, invoke)


def completed(invoke: Callable[..., Result], line: str, shell: str = "bash", **env: str) -> list[str]:
    """Return what is offered for the last word of ``line``, split as the shell splits it."""
    words = line.replace(":", " : ").removesuffix(" ").split(" ") if shell == "bash" else line.split(" ")
    if shell == "bash" and line.endswith(" "):
        words.append("")
    words = [word for word in words[:-1] if word] + words[-1:]
    current = words[-1] if shell == "fish" else str(len(words) - 1)
    done = invoke(_PAPYRA_COMPLETE=f"{shell}_complete", COMP_WORDS=" ".join(words), COMP_CWORD=current, **env)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.rstrip("\n").split("\n")
    if shell == "zsh":
        return [value for kind, value in zip(lines[::3], lines[1::3], strict=False) if kind == "plain"]
    return [line.partition("\t")[0].removeprefix("plain,") for line in lines if line.startswith("plain,")]


def event(**more: object) -> str:
    record = {
        "kind": "event",
        "system_id": "s",
        "actor_address": "s:1",
        "event_type": "A",
        "payload": {},
        "timestamp": 1,
    }
    return json.dumps(record | more) + "\n"


def letter(**more: object) -> str:
    record = {
        "kind": "dead_letter",
        "system_id": "s",
        "target": "s:9",
        "message_type": "Order",
        "payload": 1,
        "timestamp": 1,
    }
    return json.dumps(record | more) + "\n"


@pytest.fixture
def store(run: Runner) -> Path:
    path = run.folder / "facts.ndjson"
    path.write_text(event(event_type="Custom") + event(actor_address="s:2") + letter())
    return path


KNOWN = ["ActorCrashed", "ActorRestarted", "ActorStarted", "ActorStopped"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_event_types_are_the_known_ones_and_those_of_the_chosen_store(
    complete: Complete, store: Path, shell: str
) -> None:
    line = "papyra inspect events --path facts.ndjson --type "
    assert complete(line, shell) == ["A", *KNOWN, "Custom"]
    assert complete(f"{line}ActorS", shell) == ["ActorStarted", "ActorStopped"]


def test_the_store_may_be_configured(complete: Complete, store: Path) -> None:
    offered = complete("papyra inspect events --type C", PAPYRA_PERSISTENCE="json:facts.ndjson")
    assert offered == ["Custom"]


@pytest.mark.parametrize(
    "named", ["--path none.ndjson", "--path .", "--backend sqlite:none.db", "--backend nope:x", ""]
)
def test_without_a_store_the_known_event_types_are_left_and_nothing_is_made(
    complete: Complete, run: Runner, named: str
) -> None:
    line = " ".join(f"papyra inspect events {named} --type A".split())
    assert complete(line, "zsh") == KNOWN
    assert list(run.folder.iterdir()) == []


def test_actors_targets_and_types_of_messages_are_offered(complete: Complete, store: Path) -> None:
    letters = "papyra inspect dead-letters --path facts.ndjson"
    assert complete(f"{letters} --type ") == ["Order"]
    assert complete(f"{letters} --actor ", "zsh") == ["s:9"]
    assert complete("papyra inspect events --path facts.ndjson --actor s:") == [
        "1",
        "2",
    ]  # what bash replaces
    assert complete("papyra inspect events --path facts.ndjson --actor s:", "fish") == ["s:1", "s:2"]


def test_runs_are_those_of_the_newest_events_and_letters(complete: Complete, run: Runner) -> None:
    (run.folder / "facts.ndjson").write_text(event() + event(run="r1") + letter(run="r2") + event(run="r1"))
    line = "papyra inspect events --path facts.ndjson --run "
    assert complete(line) == ["last", "r1", "r2"]
    assert complete(f"{line}r", "zsh") == ["r1", "r2"]


def test_backends_are_offered_without_loading_one(complete: Complete, site: Site) -> None:
    site.add("bad", "[papyra.backends]\nbad = bad_backend:x\n", bad_backend="raise SystemExit('loaded')")
    offered = complete("papyra persistence scan --backend ")
    assert offered == sorted(offered)
    assert {"bad:", "json:", "memory:", "rotating:", "sqlite:"} <= set(offered)
    assert complete("papyra persistence scan --backend=js", "fish") == ["--backend=json:"]


def test_files_are_offered_behind_a_scheme(complete: Complete, run: Runner, store: Path) -> None:
    (run.folder / "deep").mkdir()
    (run.folder / "deep" / "x.db").touch()
    assert complete("papyra persistence scan --backend json:", "zsh") == [
        "json:deep/",
        "json:facts.ndjson",
    ]
    assert complete("papyra persistence scan --backend json:fa") == ["facts.ndjson"]
    assert complete("papyra persistence scan --backend sqlite:deep/") == ["deep/x.db"]
    assert complete("papyra persistence scan --backend sqlite:nowhere/", "zsh") == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("papyra pers", ["persistence"]),
        ("papyra he", ["hello"]),
        ("papyra inspect dead", ["dead-letters"]),
        ("papyra missing x", []),
        ("papyra persistence recover --mode ", ["repair", "quarantine"]),
        ("papyra doctor run --mode f", ["fail_on_anomaly"]),
        ("papyra -o jsonl inspect ev", ["events"]),
        ("papyra -o t", ["table"]),
    ],
)
def test_commands_and_modes_are_offered(complete: Complete, toy: Path, line: str, offered: list[str]) -> None:
    assert complete(line) == offered


HOSTILE = [
    "$(rm -rf x)",
    "`id`",
    "a;b",
    "a b",
    "a\nplain,b",
    "\x1b[2J",
    "-rf",
    "\u202eevil",
    "a'b",
    "",
    "x" * 200,
]


def test_a_name_that_a_shell_would_read_as_more_than_a_word_is_not_offered(
    complete: Complete, run: Runner
) -> None:
    (run.folder / "facts.ndjson").write_text("".join(event(event_type=name) for name in HOSTILE))
    for shell in ("bash", "zsh", "fish"):
        assert complete("papyra inspect events --path facts.ndjson --type ", shell) == KNOWN
    assert [item.value for item in _offered(["ok", "Zpráva", "a.b:c", *HOSTILE], "")] == [
        "Zpráva",
        "a.b:c",
        "ok",
    ]


def test_what_plugins_and_settings_print_does_not_reach_the_shell(complete: Complete, toy: Path) -> None:
    line = f"papyra inspect events --backend toy:{toy}?noise=1 --type ActorSta"
    assert complete(line, "zsh") == ["ActorStarted"]


def test_a_slow_store_does_not_keep_the_shell_waiting(
    invoke: Callable[..., Result], toy: Path, site: Site
) -> None:
    module = site.folder / "toy_backend.py"
    slow = "\n    async def list_events(self, **_):\n        await anyio.sleep(600)\n"
    module.write_text(module.read_text() + slow)
    assert completed(invoke, f"papyra inspect events --backend toy:{toy} --type A", "zsh") == KNOWN


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["a", "json", ":", "x"], ["a", "json:x"]),
        (["a", "json", ":"], ["a", "json:"]),
        (["a", "json", ":", ""], ["a", "json:", ""]),
        (["a", "--mode", "=", "r"], ["a", "--mode", "r"]),
        (["a", "--mode", "="], ["a", "--mode="]),
        (["a", "json", ":", "x?n", "=", "5"], ["a", "json:x?n=5"]),
        (["a", "x", "::", "y"], ["a", "x::y"]),
    ],
)
def test_words_that_bash_took_apart_are_put_together(words: list[str], joined: list[str]) -> None:
    assert _joined(words) == joined


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_what_click_has_with_our_changes(invoke: Callable[..., Result], shell: str) -> None:
    done = invoke(_PAPYRA_COMPLETE=f"{shell}_source")
    assert done.exit_code == 0
    assert f"_PAPYRA_COMPLETE={shell}_complete" in done.stdout
    ours = {"bash": "compopt -o nospace", "zsh": "compadd -U -S ''", "fish": ""}
    assert ours[shell] in done.stdout


class Bash:
    """An interactive bash on a terminal, with the completion switched on as the reference says."""

    def __init__(self, run: Runner) -> None:
        rc = run.folder / "rc"
        rc.write_text(f'PS1="> "; PATH={Path(run.argv[0]).parent}:$PATH; bind "set enable-bracketed-paste off"\n'
                      'eval "$(_PAPYRA_COMPLETE=bash_source papyra)"\n')  # fmt: skip
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--rcfile", rc, "-i"],
            stdin=slave, stdout=slave, stderr=slave, cwd=run.folder, env=run.environment | {"TERM": "dumb"},
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._text = ""
        self._wait_for("> ")

    def tab(self, typed: str, expected: str) -> None:
        """Type and press Tab; the line must become ``expected``."""
        self._text = ""
        os.write(self._master, f"{typed}\t".encode())
        self._wait_for(expected)
        os.write(self._master, b"\x15")  # Ctrl-U: empties the line

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _wait_for(self, text: str) -> None:
        while text not in self._text:
            if not select.select([self._master], [], [], 120)[0]:
                raise AssertionError(f"{text!r} was never shown, but: {self._text!r}")
            self._text += os.read(self._master, 65536).decode(errors="replace")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_tab_in_a_real_bash(run: Runner, store: Path) -> None:
    bash = Bash(run.patient())
    try:
        bash.tab("papyra insp", "papyra inspect ")
        bash.tab("papyra inspect events --path facts.ndjson --type Cus", "--type Custom ")
        bash.tab("papyra inspect events --backend json:fa", "--backend json:facts.ndjson ")
        bash.tab("papyra persistence recover --mode=q", "--mode=quarantine ")
        bash.tab("papyra inspect events --backend js", "--backend json:")
        bash.tab("papyra inspect events --path fac", "--path facts.ndjson ")
    finally:
        bash.end()
