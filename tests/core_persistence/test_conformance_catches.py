"""BackendConformance fails a backend that breaks a promise: one broken backend for each."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

PROLOGUE = """
import math
from dataclasses import replace
import anyio, pytest
from papyra.exceptions import PersistenceError
from papyra.persistence import InMemoryPersistence, RetentionPolicy
from papyra.persistence.models import *
from papyra.testing import BackendConformance

def anomaly(path):
    return PersistenceAnomaly(PersistenceAnomalyType.TORN_TAIL, path, "")
"""

CONFTEST = """
import pytest

anyio_backend = pytest.fixture(lambda: "asyncio")

def pytest_collection_modifyitems(items):
    # Each broken backend meets the one promise that it breaks.
    items[:] = [item for item in items if item.cls.__name__.removeprefix("Test_") in item.name]
"""

# The promise that must be missed, and how it is broken.
BROKEN = {
    "any_json_comes_back": """
        async def record_batch(self, records):
            await super().record_batch(
                [replace(one, payload={}) if isinstance(one, PersistedEvent) else one for one in records])
    """,
    "a_batch_is_stored_in_its_order": """
        async def record_batch(self, records):
            await super().record_batch(sorted(records, key=lambda one: type(one).__name__))
            self._records.reverse()
    """,
    "equal_records_are_each_stored": """
        async def record_batch(self, records):
            await super().record_batch([one for one in records if one not in self._records])
    """,
    "records_from_many_tasks": """
        async def record_event(self, event):
            seen = list(self._records)
            await anyio.sleep(0)
            self._records.clear()
            self._records.extend([*seen, event])
            self.metrics.records_written += 1
    """,
    "a_cancelled_write": """
        async def record_batch(self, records):
            for one in records:
                if isinstance(one, PersistedEvent) and len(records) == 20:
                    self._records.append(replace(one, payload={}))
                    await anyio.sleep(0)
                    self._records.pop()
                await super().record_batch([one])
    """,
    "harms_no_other_record": """
        async def list_events(self, **filters):
            found = await super().list_events(**filters)
            [key.encode() for one in found for key in (one.event_type, *one.payload)]
            return found
    """,
    "limit_takes_the_newest": """
        async def list_events(self, *, limit=None, **filters):
            return (await super().list_events(**filters))[:limit]
    """,
    "limit_zero": """
        async def list_audits(self, *, limit=None, **filters):
            return await super().list_audits(limit=limit or None, **filters)
    """,
    "a_negative_limit": """
        async def list_dead_letters(self, *, limit=None, **filters):
            return await super().list_dead_letters(limit=None if limit is None else abs(limit), **filters)
    """,
    "since_and_until_are_inclusive": """
        async def list_events(self, *, until=None, **filters):
            until = None if until is None else math.nextafter(until, -math.inf)
            return await super().list_events(until=until, **filters)
    """,
    "events_are_found_by_type_and_actor": """
        async def list_events(self, *, actor=None, **filters):
            return await super().list_events(actor=actor or None, **filters)
    """,
    "age_is_applied_before_count": """
        def _kept(self):
            policy = self.retention
            newest = RetentionPolicy(policy.max_records).newest_kept(reversed(self._records), 0.0, len)
            return replace(policy, max_records=None).newest_kept(newest, self.time_fn(), lambda _: 1)
    """,
    "age_follows_the_clock": """
        def _kept(self):
            return self.retention.newest_kept(reversed(self._records), 1.7e9, lambda _: 1)
    """,
    "bytes_keep_the_newest": """
        def _kept(self):
            return replace(self.retention, max_total_bytes=None).newest_kept(
                reversed(self._records), self.time_fn(), lambda _: 1)
    """,
    "a_dry_run": """
        async def compact(self, *, dry_run=False):
            return await super().compact()
    """,
    "a_compaction_removes": """
        async def compact(self, *, dry_run=False):
            report = await super().compact(dry_run=dry_run)
            return replace(report, after_records=report.before_records)
    """,
    "a_healthy_store_scans_clean": """
        async def scan(self):
            return replace(await super().scan(), anomalies=(anomaly("here"),))
    """,
    "recovering_a_healthy_store": """
        async def recover(self, config=None):
            return replace(await super().recover(config), repaired_files=("all of them",))
    """,
    "after_closing_every_call_is_refused": """
        async def flush(self):
            pass
    """,
    "closing_twice": """
        async def aclose(self):
            self._refuse_if_closed()
            await super().aclose()
    """,
    "reopening_shows": """
        pass
    """,
    "the_counters_count": """
        async def record_audit(self, audit):
            await super().record_audit(audit)
            self.metrics.records_written += 1
    """,
    "a_new_backend_is_open_and_healthy": """
        healthy = False
    """,
    "the_class_can_stand_behind_an_entry_point": """
        papyra_api = "2.0"
    """,
    "a_url_opens_the_backend": """
        @classmethod
        def from_url(cls, url):
            return cls()
    """,
    "a_mistake_in_a_url": """
        @classmethod
        def from_url(cls, url):
            return super().from_url(url.replace("no_such_option=1", ""))
    """,
}


def module() -> str:
    parts = [PROLOGUE]
    for number, (promise, body) in enumerate(BROKEN.items()):
        lines = "\n".join(line[4:] for line in body.splitlines() if line.strip())
        parts.append(
            f"class Broken{number}(InMemoryPersistence):\n{lines}\n\n"
            f"class Test_{promise}(BackendConformance):\n    durable = {promise == 'reopening_shows'}\n"
            f"    open_backend = pytest.fixture(lambda self: Broken{number})\n"
        )
    return "\n".join(parts)


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> dict[str, set[str]]:
    """The tests that failed, by promise; run once for all, in a process of its own."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "test_broken.py").write_text(module(), "utf-8")
    # A conftest that defines anyio_backend, as many projects have one, must not get in the way.
    (folder / "conftest.py").write_text(CONFTEST, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf", "."],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found: dict[str, set[str]] = {}
    for promise, test in re.findall(
        r"^FAILED test_broken\.py::Test_(\w+)::test_(\S+)", ran.stdout, re.MULTILINE
    ):
        found.setdefault(promise, set()).add(test)
    return found


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_caught_on_both_event_loops(failed, promise):
    missed = failed.get(promise, set())
    assert any("asyncio" in test for test in missed)
    assert any("trio" in test for test in missed)


def test_a_subclass_without_the_fixture_is_told_what_to_define(tmp_path):
    (tmp_path / "test_forgotten.py").write_text(
        "from papyra.testing import BackendConformance\nclass TestForgotten(BackendConformance): pass\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "TestForgotten must define the fixture open_backend" in ran.stdout


def test_the_package_does_not_need_pytest_until_it_is_asked_for_conformance():
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "import papyra.testing as testing\n"
        "assert 'BackendConformance' in dir(testing)\n"
        "try: testing.Nothing\n"
        "except AttributeError as error: assert \"'papyra.testing' has no attribute 'Nothing'\" in str(error)\n"
        "try: testing.BackendConformance\n"
        "except ImportError as error: assert 'pytest' in str(error)\n"
        "else: raise SystemExit('it came without pytest')"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
