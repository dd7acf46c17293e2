"""`papyra persistence recover`, `startup-check` and `doctor run`.

What they change and what they exit with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from papyra_cli._main import papyra

EVENT = '{"kind":"event","system_id":"local","actor_address":"local:1","event_type":"%s","payload":{},"timestamp":%s}\n'


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Make a file with two records and a bad line between them."""
    path = tmp_path / "what? a #1 50% file.ndjson"
    path.write_text(EVENT % ("A", 1700000000) + "nonsense\n" + EVENT % ("B", 1700000001))
    return path


def invoke(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(papyra, [str(arg) for arg in args], input=stdin)


def test_recovery_without_a_terminal_needs_a_yes(damaged: Path) -> None:
    before = damaged.read_bytes()
    done = invoke("persistence", "recover", "--path", damaged)
    assert done.exit_code == 2
    assert "add --yes" in done.stderr
    assert damaged.read_bytes() == before


def test_a_quarantine_keeps_what_is_dropped(damaged: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    done = invoke(
        "persistence", "recover", "--path", damaged, "--yes", "--quarantine-dir", kept, "-o", "json"
    )
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert [found["line"] for found in report["scan"]["anomalies"]] == [2]
    assert report["repaired_files"] == [str(damaged)]
    assert report["left"] == {"backend": "json", "anomalies": [], "has_anomalies": False}
    assert [file.read_text() for file in kept.iterdir() if file.is_file()] == ["nonsense\n"]
    assert damaged.read_text().count("\n") == 2
    again = invoke("persistence", "recover", "--path", damaged, "--yes")
    assert (again.exit_code, again.stdout) == (0, "status\tclean: nothing to recover\n")


def test_a_repair_drops_it(damaged: Path, tmp_path: Path) -> None:
    done = invoke("persistence", "recover", "--mode", "repair", "--path", damaged, "--yes")
    assert done.exit_code == 0
    assert f"repaired\t{damaged}\n" in done.stdout
    assert done.stdout.endswith("status\trecovered: 1 anomaly found, none left\n")
    assert invoke("persistence", "scan", "--path", damaged).exit_code == 0


def test_a_dry_run_changes_nothing(damaged: Path, tmp_path: Path) -> None:
    before = damaged.read_bytes()
    done = invoke("persistence", "recover", "--path", damaged, "--dry-run")
    assert done.exit_code == 0
    assert "dry run: would quarantine 1 anomaly; nothing was changed" in done.stdout
    assert damaged.read_bytes() == before
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_quarantine_folder_needs_the_mode(damaged: Path) -> None:
    done = invoke(
        "persistence", "recover", "--mode", "repair", "--quarantine-dir", "x", "--path", damaged, "--yes"
    )
    assert done.exit_code == 2
    assert "--quarantine-dir goes with --mode quarantine" in done.stderr


def test_a_recovery_that_leaves_anomalies_exits_with_4(invoke: Callable[..., Result], toy: Path) -> None:
    done = invoke("persistence", "recover", "--yes", "--backend", f"toy:{toy}?stubborn=1")
    assert done.exit_code == 4
    assert f"left\tcorrupt_line\t{toy}\t2\t0\tnonsense\n" in done.stdout
    startup = ("startup-check", "--mode", "recover", "--backend", f"toy:{toy}?stubborn=1")
    assert invoke("persistence", *startup).exit_code == 4
    assert invoke("doctor", "run", *startup[1:]).exit_code == 4


@pytest.mark.parametrize("command", [("persistence", "startup-check"), ("doctor", "run")])
@pytest.mark.parametrize(
    ("mode", "code", "note"),
    [
        ("ignore", 0, "would start: it does not look at the store"),
        ("scan_only", 0, "would start: 1 anomaly"),
        ("fail_on_anomaly", 1, "would not start: 1 anomaly"),
        ("recover", 0, "would start: 1 anomaly found, 0 left after the recovery"),
    ],
)
def test_what_a_starting_system_would_do(
    damaged: Path, command: tuple[str, str], mode: str, code: int, note: str
) -> None:
    before = damaged.read_bytes()
    done = invoke(*command, "--mode", mode, "--path", damaged)
    assert done.exit_code == code
    assert note in done.stdout
    assert (damaged.read_bytes() != before) is (mode == "recover")


def test_doctor_as_json(damaged: Path) -> None:
    done = invoke("doctor", "run", "--path", damaged, "-o", "json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["status"] == "failed"
    assert {check["name"]: check["status"] for check in report["checks"]} == {
        "store": "ok",
        "backend": "ok",
        "health": "ok",
        "startup": "failed",
    }
    assert report["startup"]["scan"]["anomalies"][0]["line"] == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--recovery-mode", "repair"], "--recovery-mode goes with --mode recover"),
        (["--mode", "recover", "--quarantine-dir", "x"], "--recovery-mode quarantine"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--timeout", "soon"], "'soon': expected seconds"),
    ],
)
def test_options_of_a_start_that_do_not_fit(options: list[str], text: str) -> None:
    done = invoke("doctor", "run", "--backend", "memory:", *options)
    assert done.exit_code == 2
    assert text in done.stderr


def test_a_check_that_takes_too_long_has_failed(invoke: Callable[..., Result], toy: Path) -> None:
    done = invoke("persistence", "startup-check", "--timeout", "10ms", "--backend", f"toy:{toy}?slow=600")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "did not end within 0.01 s" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (
            "fail=OSError",
            1,
            "papyra: error: [Errno 28] No space left on device; make room on the disk and try again\n",
        ),
        ("fail=denied", 3, "papyra: error: /x: Permission denied\n"),
        ("fail=bug", 1, "papyra: error: unexpected: RuntimeError: first\\nsecond (--debug shows where)\n"),
    ],
)
def test_each_failure_of_a_backend_has_its_exit_code(
    invoke: Callable[..., Result], toy: Path, fault: str, code: int, text: str
) -> None:
    done = invoke("persistence", "scan", "--backend", f"toy:{toy}?{fault}")
    assert (done.exit_code, done.stderr) == (code, text)


def test_a_backend_that_fails_to_open_is_an_unavailable_store(
    invoke: Callable[..., Result], toy: Path
) -> None:
    done = invoke("persistence", "scan", "--backend", f"toy:{toy}?opening=no+driver")
    assert done.exit_code == 3
    assert done.stderr.endswith("opening=no+driver: RuntimeError: no driver\n")
    assert invoke("persistence", "scan", "--backend", f"toy:{toy}.none").exit_code == 3
