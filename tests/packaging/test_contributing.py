"""CONTRIBUTING leads to files that exist."""

from __future__ import annotations

import re


def test_where_to_change_what_names_files_that_exist(root):
    page = (root / "CONTRIBUTING.md").read_text("utf-8")
    table = page.partition("## Where to change what")[2].partition("\n## ")[0]
    sources = [root, *root.glob("packages/*/src")]
    paths = [path for path in re.findall(r"`([\w/.-]+)`", table) if "/" in path]
    assert len(paths) > 15
    assert [path for path in paths if not any((folder / path).exists() for folder in sources)] == []


def test_every_command_of_the_page_exists(root):
    page = (root / "CONTRIBUTING.md").read_text("utf-8")
    scripts = set(re.findall(r"\b(scripts/\w+|\.ci/run)", page))
    assert len(scripts) > 4
    assert [name for name in scripts if not (root / name).exists()] == []
