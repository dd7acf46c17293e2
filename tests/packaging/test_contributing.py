"""CONTRIBUTING and the pages of the design lead to files and code that exist."""

from __future__ import annotations

import ast
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


def _members(root):
    """Return the names that each module and class of the packages defines, at any depth."""
    members = {}
    for path in root.glob("packages/*/src/**/*.py"):
        module = ast.parse(path.read_text("utf-8"))
        for owner in ast.walk(module):
            if isinstance(owner, ast.Module | ast.ClassDef):
                name = path.stem if owner is module else owner.name
                for node in ast.walk(owner):
                    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                        members.setdefault(name, set()).add(node.name)
                    elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                        members.setdefault(name, set()).add(getattr(node, "attr", getattr(node, "id", "")))
    return members


def test_code_that_the_pages_of_the_design_name_exists(root):
    members = _members(root)
    wrong = []
    named = 0
    for page in [root / "CONTRIBUTING.md", *sorted(root.glob("docs/design/*.md"))]:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
        for owner, name in re.findall(r"`(?!papyra)(?:\w+\.)*(\w+)\.(\w+)(?:\(\))?`", text):
            if owner in members and name not in ("md", "py"):
                named += 1
                if name not in members[owner]:
                    wrong.append(f"{page.name}: {owner}.{name}")
    assert named > 20
    assert wrong == []
