"""The template makes a distribution that works as it comes, and the how-to page shows the same code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from papyra.testing import Wire

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "templates" / "backend"
SERVER_TEMPLATE = ROOT / "templates" / "server-backend"


FULL_DISK = """
import resource
import signal

import anyio

from papyra.exceptions import PersistenceError
from papyra.persistence.models import PersistedEvent
from papyra_tape import TapePersistence


async def main() -> None:
    event = PersistedEvent("shop", "shop:1", "ActorStarted", {}, 0.0)
    store = TapePersistence("facts")
    await store.record_event(event)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        await store.record_batch([event] * 100)
    except PersistenceError as error:
        print(error.retry)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    print(len(await store.list_events()))
    await store.record_event(event)
    print(len(await store.list_events()))


anyio.run(main)
"""


def run(*command: object, folder: Path, path: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PAPYRA_"))
    }
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=environment | {"PYTHONPATH": path} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def generate(folder: Path, template: Path = TEMPLATE, **answers: str) -> Path:
    """Let copier make a distribution, with the defaults for what is not answered."""
    given = [word for name, value in answers.items() for word in ("--data", f"{name}={value}")]
    made = run("copier", "copy", "--quiet", "--defaults", *given, template, folder / "made", folder=folder)
    assert made.returncode == 0, made.stdout
    return folder / "made"


def installed(distribution: Path) -> str:
    """Return a PYTHONPATH on which a distribution is as if it were installed.

    Nothing is asked of a registry.
    """
    project: dict[str, Any] = tomllib.loads((distribution / "pyproject.toml").read_text("utf-8"))["project"]
    info = distribution / "installed" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return os.pathsep.join([str(distribution / "src"), str(info.parent)])


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as the defaults make it."""
    return generate(tmp_path_factory.mktemp("tape"))


@pytest.fixture(scope="module")
def path(tape: Path) -> str:
    return installed(tape)


@pytest.mark.parametrize(("words", "least"), [("close", 5), pytest.param("", 200, marks=pytest.mark.sweep)])
def test_its_own_tests_pass_as_generated(words: str, least: int, tape: Path, path: str) -> None:
    """All of them pass on the how-to page, whose code is the same."""
    ran = run("pytest", "-q", "-p", "no:cacheprovider", "-k", words, folder=tape, path=path)
    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > least


def test_a_full_disk_stores_nothing_of_a_batch(tape: Path, path: str, tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(FULL_DISK, "utf-8")
    ran = run("full", folder=tmp_path, path=path)
    assert ran.stdout.split() == ["True", "1", "2"], ran.stdout


def test_papyra_plugins_finds_it_in_order_and_says_what_is_broken(tape: Path, path: str) -> None:
    sound = run("papyra_cli", "plugins", "--check", "-o", "json", folder=tape, path=path)
    assert sound.returncode == 0, sound.stdout
    (info,) = [one for one in json.loads(sound.stdout) if one["name"] == "tape"]
    assert (info["status"], info["distribution"], info["api"]) == ("ok", "papyra-tape", "1.0")
    code = tape / "src" / "papyra_tape" / "_backend.py"
    text = code.read_text("utf-8")
    try:
        code.write_text(text.replace("async def select", "async def choose"), "utf-8")
        broken = run("papyra_cli", "plugins", "--check", "-o", "json", folder=tape, path=path)
    finally:
        code.write_text(text, "utf-8")
    assert broken.returncode == 1, broken.stdout
    (info,) = [one for one in json.loads(broken.stdout) if one["name"] == "tape"]
    assert (info["status"], info["reason"]) == ("broken", "TapePersistence does not define select")


def test_the_how_to_page_shows_the_same_code(tape: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "write-a-backend.md").read_text("utf-8")
    blocks = dict(re.findall(r'```\w+ title="([\w.]+)"\n(.*?)```', page, re.DOTALL))
    ledger = SERVER_TEMPLATE / "template" / "src" / "{{ package }}" / "_backend.py.jinja"
    made_ledger = ledger.read_text("utf-8")
    for word, answer in (
        ("class_name", "LedgerPersistence"), ("backend_name", "ledger"), ("table", "papyra_ledger"),
    ):  # fmt: skip
        made_ledger = made_ledger.replace(f"{{{{ {word} }}}}", answer)
    assert blocks["papyra_ledger.py"] == made_ledger
    assert blocks["tape.py"] == (tape / "src" / "papyra_tape" / "_backend.py").read_text("utf-8")
    shown, made = (
        tomllib.loads(text)
        for text in (blocks["pyproject.toml"], (tape / "pyproject.toml").read_text("utf-8"))
    )
    assert shown["build-system"] == made["build-system"]
    assert shown["project"].items() <= made["project"].items()


def test_the_answers_reach_every_file(tmp_path: Path) -> None:
    made = generate(
        tmp_path, backend_name="reel2", distribution="Acme.Reel", class_name="ReelStore", author="A. B."
    )
    files = {
        str(file.relative_to(made)): file.read_text("utf-8") for file in made.rglob("*") if file.is_file()
    }
    assert set(files) == {
        ".github/workflows/ci.yml", ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml",
        "tests/test_reel2.py",
        "src/acme_reel/__init__.py", "src/acme_reel/_backend.py", "src/acme_reel/py.typed",
    }  # fmt: skip
    assert not [
        name for name, text in files.items() if "tape" in text.lower() or "{{" in text.replace("${{", "")
    ]
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"] == {"papyra.backends": {"reel2": "acme_reel:ReelStore"}}
    checked = run("papyra_cli", "plugins", "--check", folder=made, path=installed(made))
    assert checked.returncode == 0, checked.stdout


NO_NAMES = [
    ("backend_name", "Tape"),
    ("backend_name", "my-tape"),
    ("distribution", "-x"),
    ("class_name", "tape store"),
    ("backend_name", "sqlite"),
    ("distribution", "Papyra_JSON"),
    ("distribution", "pytest"),
    ("class_name", "BatchBackend"),
]

ANSWER_EACH = """
import json
import sys

import copier

template, answers = sys.argv[1], json.loads(sys.argv[2])
for number, (name, answer) in enumerate(answers):
    try:
        copier.run_copy(template, f"made{number}", data={name: answer}, defaults=True, quiet=True)
    except ValueError as error:
        print(json.dumps(str(error)))
    else:
        print(json.dumps("it was made"))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Give each of NO_NAMES to copier, in one process because it takes a second to load.

    Return the folder and its words.
    """
    folder = tmp_path_factory.mktemp("refused")
    (folder / "answer_each.py").write_text(ANSWER_EACH, "utf-8")
    ran = run("answer_each", TEMPLATE, json.dumps(NO_NAMES), folder=folder)
    assert ran.returncode == 0, ran.stdout
    return folder, [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(NO_NAMES)), ids=lambda number: "-".join(NO_NAMES[number]))
def test_an_answer_that_cannot_be_a_name_is_refused(number: int, refusals: tuple[Path, list[str]]) -> None:
    folder, words = refusals
    assert "as in" in words[number] or "between them" in words[number], words
    assert not (folder / f"made{number}").exists()


@pytest.mark.sweep
def test_the_store_on_a_server_passes_its_own_tests(tmp_path: Path) -> None:
    """On a real server, whose connections are cut meanwhile."""
    postgres = pytest.importorskip("tests.contrib._postgres_server", reason="there is no PostgreSQL here")
    made = generate(tmp_path, SERVER_TEMPLATE)
    server = postgres.PostgresServer()
    try:
        server.start()
        words = "offered or answer or process or page or ping or 5000 or wire or password or stalled"
        with Wire(server.folder / ".s.PGSQL.5432") as wire:
            address = f"//papyra@{wire.host}:{wire.port}/postgres"
            ran = run(
                "pytest", "-q", "-p", "no:cacheprovider", "-k", words,
                folder=made, path=installed(made), TEST_SERVER=address,
            )  # fmt: skip
    finally:
        server.close()
    assert ran.returncode == 0, ran.stdout
    assert int(re.findall(r"(\d+) passed", ran.stdout)[0]) > 25


@pytest.mark.wheels
def test_it_is_built_and_its_types_hold(tape: Path, path: str, tmp_path: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv") or ROOT / ".tools" / "bin" / "uv"
    built = subprocess.run(
        [uv, "build", "--quiet", "--offline", "--wheel", "--out-dir", tmp_path, tape],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert [wheel.name for wheel in tmp_path.glob("*.whl")] == ["papyra_tape-0.1.0-py3-none-any.whl"]
    typed = run("mypy", folder=tape, path=path)
    assert typed.returncode == 0, typed.stdout
