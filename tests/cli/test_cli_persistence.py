"""`papyra persistence`, against a throw-away backend."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Runner


def test_a_scan_of_a_damaged_store_exits_with_1_and_says_where(run: Runner, toy: Path) -> None:
    done = run("persistence", "scan", "--backend", f"toy:{toy}")
    assert done.returncode == 1
    assert done.stdout == f"anomaly\tcorrupt_line\t{toy}\t2\t0\tnonsense\nstatus\t1 anomaly found\n"
    assert done.stderr == ""


def test_a_scan_of_a_clean_store_exits_with_0(run: Runner, toy: Path) -> None:
    toy.write_text("event A 1\n")
    done = run("persistence", "scan", "--backend", f"toy:{toy}")
    assert (done.returncode, done.stdout) == (0, "status\tclean\n")


def test_scan_as_json_has_the_field_names_of_the_report(run: Runner, toy: Path) -> None:
    done = run("persistence", "scan", "--backend", f"toy:{toy}?noise=1", "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "backend": "toy",
        "anomalies": [
            {"type": "corrupt_line", "path": str(toy), "detail": "nonsense", "line": 2, "offset": 0}
        ],
        "has_anomalies": True,
    }
    assert done.stderr == "noise from the backend\n"


def test_compact_reports_before_after_and_reclaimed(run: Runner, toy: Path) -> None:
    done = run("persistence", "compact", "--backend", f"toy:{toy}", "--max-records", "1", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "backend": "toy",
        "before_records": 3,
        "after_records": 1,
        "before_bytes": 2_000_000,
        "after_bytes": 500,
        "invalid_records": 0,
        "quarantined_files": [],
        "removed_records": 2,
        "reclaimed_bytes": 1_999_500,
        "newest_timestamp": None,
        "dry_run": False,
    }
    plain = run("persistence", "compact", "--backend", f"toy:{toy}?max_records=0", "--dry-run").stdout
    assert "compaction\tbefore_records\t3\n" in plain
    assert "dry run: would remove 3 records and 2.0 MB; nothing was changed" in plain


def test_the_backend_is_closed_whatever_happens(run: Runner, toy: Path) -> None:
    done = run("persistence", "compact", "--backend", f"toy:{toy}?fail=bug")
    assert done.returncode == 1
    assert toy.with_name("facts.toy.closed").exists()
    assert done.stderr == "papyra: error: unexpected: RuntimeError: first\\nsecond (--debug shows where)\n"
