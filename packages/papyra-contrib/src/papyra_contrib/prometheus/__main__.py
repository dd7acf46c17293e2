"""``python -m papyra_contrib.prometheus grafana|alerts|alerts-test`` prints a file that comes with Papyra."""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files

FILES = {"grafana": "grafana.json", "alerts": "alerts.yml", "alerts-test": "alerts_test.yml"}


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(prog="python -m papyra_contrib.prometheus", description=__doc__)
    parser.add_argument(
        "file",
        choices=FILES,
        help="a Grafana dashboard, Prometheus alert rules, or promtool's tests of the rules (they read alerts.yml)",
    )
    name = FILES[parser.parse_args().file]
    sys.stdout.write(files("papyra_contrib.prometheus").joinpath("files", name).read_text("utf-8"))


if __name__ == "__main__":
    main()
