"""``python -m benchmarks [ROW ...]``: measure, print the table with ratios, write it as JSON.

The JSON keeps the rows of earlier calls that this one does not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.rows import ROWS
from benchmarks.runner import Environments, missing, run_row

if TYPE_CHECKING:
    from benchmarks.rows import Goal, Row

PLACE = Path(".benchmarks")


def main() -> None:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"which rows (default: all): {', '.join(ROWS)}"
    )
    parser.add_argument("--repeat", type=int, default=3, help="rounds; the median of them counts (default 3)")
    parser.add_argument("--shrink", type=int, default=1, metavar="N", help="divide all scales by N")
    parser.add_argument(
        "--smoke", action="store_true", help="one short round of Papyra and the floor, to see that it runs"
    )
    parser.add_argument("--json", type=Path, default=PLACE / "results.json", help="where the results go")
    options = parser.parse_args()
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    repeat, shrink = (1, 100) if options.smoke else (options.repeat, options.shrink)
    environments = Environments(PLACE / "environments")
    results = _earlier(options.json)
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, median of {repeat}"
    )
    for name in options.rows or ROWS:
        row = ROWS[name]
        if lacking := missing(row):
            print(f"\n{name}: left out, because {lacking} is not installed: uv sync --group bench")
            continue
        if options.smoke:
            row = _only_ours(row)
        measured = run_row(row, repeat, shrink, environments)
        _print_row(row, measured, judge=not options.smoke)
        # After each row, beside those of earlier calls: all rows take an hour, and a ratio is of one row.
        results[name] = {"date": time.strftime("%Y-%m-%d"), "rounds": repeat, "figures": measured}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"python": platform.python_version(), "rows": results}, indent=2) + "\n"
        )


def _earlier(path: Path) -> dict[str, Any]:
    try:
        earlier = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return earlier["rows"] if earlier["python"] == platform.python_version() else {}


def _only_ours(row: Row) -> Row:
    scale = {who: n for who, n in row.scale.items() if who not in ("published", "pykka")}
    goals = tuple(goal for goal in row.goals if goal.against in (None, *scale) and goal.who in scale)
    return type(row)(row.name, row.what, scale, goals, row.script, row.unit)


def _print_row(row: Row, measured: dict[str, dict[str, float]], *, judge: bool) -> None:
    print(f"\n{row.name}: {row.what}")
    for who, figures in measured.items():
        print(f"  {who:<12} " + "  ".join(f"{name} {value:,.4g}" for name, value in figures.items()))
    for goal in row.goals if judge else ():
        print(f"  {_verdict(goal, measured)}")


def _verdict(goal: Goal, measured: dict[str, dict[str, float]]) -> str:
    value, met = goal.judge(measured)
    return f"goal {goal}: {value:,.3g} {'met' if met else 'MISSED'}"


main()
