"""The page of the guarantees leads to tests that are there."""

from __future__ import annotations

import re

import pytest

COUNTS = {
    "G": 23,
    "F": 10,
    "H": 21,
    "R": 36,
    "P": 38,
    "W": 17,
    "C": 18,
    "A": 6,
    "M": 6,
    "T": 6,
    "S": 4,
    "V": 5,
}


@pytest.fixture(scope="module")
def rows(root):
    page = (root / "docs" / "reference" / "guarantees.md").read_text("utf-8")
    return re.findall(r"^\| ([A-Z])(\d+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)


def test_every_promise_is_on_the_page_once(rows):
    listed = [(letter, int(number)) for letter, number, _, _ in rows]
    assert len(listed) == len(set(listed))
    assert {letter: sum(one == letter for one, _ in listed) for letter in COUNTS} == COUNTS


def test_the_tests_of_every_promise_exist(root, rows):
    for letter, number, _, tests in rows:
        files = re.findall(r"`([^`]+)`", tests)
        assert files or tests == "*not yet*", f"{letter}{number}"
        for file in files:
            assert (root / file).is_file(), f"{letter}{number}: {file}"
