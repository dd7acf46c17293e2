"""H20: the names of the published package papyra 0.3 are here, or a page lists them with the reason why not.

It installs the published package, which needs a registry: ``pytest -m wheels``.
"""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from tests.packaging.test_wheels import built, install, run, uv  # noqa: F401 - fixtures

pytestmark = pytest.mark.wheels

PROGRAM = Path(__file__).with_name("public_names.py")
PAGE = Path(__file__).parents[2] / "docs" / "coming-from" / "papyra-0.3.md"


def names(report):
    """Return the parameters of every name, None where there are none to compare."""
    found = {}
    for module, entries in report.items():
        found[module] = None
        for name, entry in entries.items() if "error" not in entries else ():
            found[f"{module}.{name}"] = entry.get("parameters")
            for member, parameters in entry.get("members", {}).items():
                found[f"{module}.{name}.{member}"] = parameters
    return found


def differences(theirs, ours):
    """Return the names and parameters of the published package that ours has not."""
    found = []
    for name, parameters in theirs.items():
        if name not in ours:
            if not any(name.startswith(f"{parent}.") for parent in found):
                found.append(name)
            continue
        mine = ours[name]
        if parameters is not None and mine is not None:
            known = {each.lstrip("*") for each in mine}
            found += [f"{name}({each})" for each in (p.lstrip("*") for p in parameters) if each not in known]
    return found


def documented():
    """Return the patterns in the first column of the page's tables of differences."""
    page = PAGE.read_text("utf-8").partition("## Names that are gone")[2]
    rows = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    return [pattern for row in rows for pattern in re.findall(r"`([^`]+)`", row)]


def test_h20_each_name_is_here_or_in_the_page(uv, install, tmp_path):  # noqa: F811 - fixtures
    old = tmp_path / "published"
    run(uv, "venv", "--quiet", "--python", sys.executable, old)
    run(uv, "pip", "install", "--quiet", "--python", old, "papyra==0.3.0")
    new = install("papyra-core", "papyra-json", "papyra-cli", "papyra-contrib[redis]")
    theirs = json.loads(run(old / "bin" / "python", PROGRAM, cwd=tmp_path))
    (tmp_path / "theirs.json").write_text(json.dumps(theirs), "utf-8")
    ours = json.loads(run(new / "python", PROGRAM, "theirs.json", cwd=tmp_path))
    found, patterns = differences(names(theirs), names(ours)), documented()
    assert len(found) > 50, "the comparison sees nothing"
    assert [name for name in found if not any(fnmatchcase(name, each) for each in patterns)] == []
    assert [each for each in patterns if not any(fnmatchcase(name, each) for name in found)] == []


def test_h20_both_in_one_environment_are_reported(uv, install, tmp_path):  # noqa: F811 - fixtures
    bin_ = install("papyra-core", "papyra-json", "papyra-cli")
    python = bin_ / "python"
    assert run(python, "-c", "import papyra", cwd=tmp_path) == ""
    # Their files are there, and ours came last: what `pip install papyra-core` leaves beside papyra 0.3.
    (site,) = (bin_.parent / "lib").glob("python*/site-packages")
    run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--no-deps",
        "--target",
        tmp_path,
        "papyra==0.3.0",
    )
    (metadata,) = tmp_path.glob("papyra-0.3.0.dist-info")
    metadata.rename(site / metadata.name)
    shown = run(python, "-c", "import papyra", cwd=bin_)
    assert "RuntimeWarning: papyra 0.3 and papyra-core" in shown
    assert "Uninstall both, then install papyra-core" in shown
    (tmp_path / "papyra.ndjson").touch()
    shown = run(bin_ / "papyra", "doctor", "run", "--path", "papyra.ndjson", cwd=tmp_path)
    assert "are both installed" in shown
