"""The page that the project was born from: its three programs and its command run as they were printed."""

from __future__ import annotations

import json
import runpy
import subprocess
import sysconfig
from pathlib import Path

SEED = Path(__file__).with_name("seed")


def run(number, names=None):
    return runpy.run_path(str(SEED / f"program_{number}.py"), init_globals=names, run_name="__main__")


def test_the_second_program_counts(capsys):
    run(2, run(1))
    assert capsys.readouterr().out == "counter = 1\n"


def test_the_third_program_leaves_a_record_that_the_command_compacts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(3, run(1))
    lines = [json.loads(line) for line in Path("papyra.ndjson").read_text("utf-8").splitlines()]
    assert [(line["kind"], line["event_type"]) for line in lines] == [
        ("event", "SystemStarted"),
        ("event", "ActorStarted"),
        ("event", "ActorStopped"),
        ("event", "SystemStopped"),
    ]
    command = [
        f"{sysconfig.get_path('scripts')}/papyra",
        "persistence",
        "compact",
        "--path",
        "./papyra.ndjson",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "removed 0 records" in ran.stdout
