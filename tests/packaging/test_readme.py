"""What README.md promises about itself."""

from __future__ import annotations

import re

import pytest

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks(root):
    return FENCE.findall((root / "README.md").read_text("utf-8"))


def test_two_bash_blocks_come_before_everything_else_that_runs(blocks):
    assert [language for language, _ in blocks].count("bash") == 2
    assert [language for language, _ in blocks[:2]] == ["bash", "bash"]


def test_the_blocks_run_alone(blocks):
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
