"""Run the examples of README.md and docs/: what a page prints is what a reader gets.

Every page has a folder of its own, in which its examples run from top to bottom and share their names:

- ``python`` is executed; a ``text`` block after it must be what it printed.
- ``python title="name.py"`` (or any other language with a title) is written to that file.
- ``console`` runs the lines that begin with ``$``; the lines below each must be its output.

Expected output may have ``...`` in it, as in doctest. Blocks in other languages are not run.
"""

from __future__ import annotations

import atexit
import contextlib
import doctest
import gc
import importlib
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sybil import Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sybil import Document, Example

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores Ctrl-C, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.dont_write_bytecode and "PYTEST_XDIST_WORKER" not in os.environ:
    # Hundreds of processes would compile the same modules again; they share a folder that ends with the run.
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="papyra-bytecode-")
    atexit.register(shutil.rmtree, sys.pycache_prefix, ignore_errors=True)
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Programs that run here have admin sockets that the tests must not see, and the other way round.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="papyra-run-")
atexit.register(shutil.rmtree, os.environ["XDG_RUNTIME_DIR"], ignore_errors=True)

_FENCE = RawFencedCodeBlockLexer(re.compile(r"(?P<language>\w+)[ \t]*(?P<attributes>[^\n]*)\n"))
_TITLE = re.compile(r'title="([\w./-]+)"')
_MATTERS_OF_TASTE = ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "COLUMNS", "LINES", "PYTEST_ADDOPTS")
_run_python = PythonEvaluator()


def _evaluate_python(example: Example) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _run_python(example)
    example.namespace["__printed__"] = printed.getvalue()


def _evaluate_text(example: Example) -> str | None:
    printed = example.namespace.pop("__printed__", None)
    if printed is None:
        return "a text block is the output of the python block above it, and there is none"
    return _difference(example.parsed, printed)


def _evaluate_console(example: Example) -> str | None:
    for block in re.split(r"^(?=\$ )", example.parsed, flags=re.MULTILINE):
        if not block.strip():
            continue
        command, _, expected = block.removeprefix("$ ").partition("\n")
        ran = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        difference = _difference(expected, ran.stdout)
        if difference is not None:
            return f"$ {command}\n{difference}"
    return None


def _difference(expected: str, printed: str) -> str | None:
    def lines(text: str) -> str:
        return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())

    example = doctest.Example("", lines(expected))
    checker = doctest.OutputChecker()
    if checker.check_output(example.want, lines(printed), doctest.ELLIPSIS):
        return None
    return checker.output_difference(example, lines(printed), doctest.ELLIPSIS)


def _write_file(example: Example) -> None:
    name, source = example.parsed
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, "utf-8")


_EVALUATORS = {"python": _evaluate_python, "text": _evaluate_text, "console": _evaluate_console}


def _parse(document: Document) -> Iterator[Region]:
    for block in _FENCE(document):
        language, source = block.lexemes["language"], block.lexemes["source"]
        title = _TITLE.search(block.lexemes["attributes"])
        if title is not None:
            yield Region(block.start, block.end, (title[1], source), _write_file)
        elif language in _EVALUATORS:
            yield Region(block.start, block.end, source, _EVALUATORS[language])


def _enter_folder(namespace: dict[str, Any]) -> None:
    folder = tempfile.mkdtemp(prefix="papyra-page-")
    namespace.update(
        __name__="__main__", __folder__=folder, __back__=(Path.cwd(), dict(os.environ), set(sys.modules))
    )
    for name in list(os.environ):  # the developer's settings, which a reader does not have
        if name.startswith("PAPYRA_") or name in _MATTERS_OF_TASTE:
            del os.environ[name]
    os.chdir(folder)
    sys.path.insert(0, folder)
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])


def _leave_folder(namespace: dict[str, Any]) -> None:
    folder = namespace["__folder__"]
    back, environment, modules = namespace["__back__"]
    os.chdir(back)
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger("papyra").setLevel(logging.NOTSET)  # a page that fails on purpose silences it
    sys.path.remove(folder)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(folder):
            del sys.modules[name]
    shutil.rmtree(folder)


pytest_collect_file = Sybil(
    parsers=[_parse], patterns=["*.md"], setup=_enter_folder, teardown=_leave_folder
).pytest()


_LONGEST_FILES = (  # by the time they take alone, those first that take 15 s or more
    "tests/core_persistence/test_conformance_catches.py",
    "tests/cluster/test_c18_kit.py",
    "tests/watch/test_admin.py",
    "tests/contrib/test_postgres_conformance.py",
    "tests/json/test_json_follow.py",
    "tests/json/test_faults_kill.py",
    "tests/cli/test_cli_locks.py",
    "tests/cli/test_cli_contract_output.py",
    "tests/runtime/test_races.py",
    "docs/how-to/operating.md",
    "tests/core_persistence/test_backend_template.py",
    "tests/cli/test_cli_pipes.py",
    "tests/cli/test_cli_completion.py",
    "tests/cli/test_cli_follow.py",
    "docs/how-to/write-a-backend.md",
    "tests/json/test_json_times_machine.py",
    "tests/cluster/test_c17_types_and_codec.py",
    "tests/cluster/test_c05_processes.py",
    "tests/packaging/test_readme.py",
)


@pytest.hookimpl(trylast=True)  # after what is not selected has been left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers begin with the files that take longest, and then with those of the most tests.

    A long file that is begun last keeps one core busy while the others have nothing left to do.
    """
    if hasattr(config, "workerinput"):
        places = {config.rootpath / name: place for place, name in enumerate(_LONGEST_FILES)}
        assert all(path.exists() for path in places), "a file of _LONGEST_FILES has another name now"
        sizes = Counter(item.path for item in items)
        if config.option.markexpr == "sweep":  # test by test; the longest ones are in files of one or two
            items.sort(key=lambda item: (sizes[item.path], item.path))
            return
        items.sort(key=lambda item: (places.get(item.path, len(places)), -sizes[item.path], item.path))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with other files of a folder.

    In a fresh clone pytest rewrites each file's asserts, which takes half the time of the collection. What
    one worker has rewritten, and compiled of an installed package, the others find.
    """
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker is not None and isinstance(collector, pytest.Dir):
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        first = len(report.result) * (number % count) // count
        report.result = report.result[first:] + report.result[:first]
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the tests' own 300,000 objects out of every collection of garbage: looking at them takes 0.2 s."""
    importlib.import_module("hypothesis")  # when imported, it looks for referrers of trio's generator
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape the lone surrogates that a test has logged.

    No report with them comes through to xdist's controller.
    """
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    return report


def pytest_xdist_auto_num_workers() -> int:
    """Run two processes more than there are cores, because many tests wait for a server or a time-out."""
    return (os.cpu_count() or 1) + 2
