"""Prove that a store of facts keeps the contract of `papyra.persistence.PersistenceBackend`."""

from __future__ import annotations

from papyra.testing._conformance.base import OpenBackend
from papyra.testing._conformance.care import CarePromises
from papyra.testing._conformance.reading import ReadingPromises
from papyra.testing._conformance.retention import RetentionPromises
from papyra.testing._conformance.writing import WritingPromises

__all__ = ["BackendConformance", "OpenBackend"]


class BackendConformance(WritingPromises, ReadingPromises, RetentionPromises, CarePromises):
    r"""Every promise of the backend contract as a test, on asyncio and on trio.

    Subclass it in a test module and say three things about the store:

    - The fixture ``open_backend`` returns a function ``open(retention_policy=None)`` that opens the store of
      the running test. The store is empty at first; within one test each call opens the same one again, once
      the backend before it is closed. Without a policy it keeps everything, or at least 1,000 records of any age.
    - ``durable = True`` if a store that was closed shows its records when it is opened again, and
      ``shared = True`` if several backends may have it open at once.
    - The fixture ``backend_url`` names an empty store as a URL without retention options. Leave it out if
      the scheme alone will do, as in ``memory:``.

    The tests close what they open. They need pytest with the plugin that anyio brings (it loads by itself),
    and trio if the backend shall be tested there. A backend may be opened outside an event loop. Further tests
    of your own, and your own fixtures, also async ones, may stand in the same class.

    A complete backend with its tests; the class would be registered with
    ``[project.entry-points."papyra.backends"]`` and the line ``tape = "your_package:TapePersistence"``::

        import json
        from dataclasses import asdict
        from pathlib import Path

        import pytest

        from papyra.persistence import PersistenceBackend, RetentionPolicy
        from papyra.persistence.models import (
            CompactionReport, PersistedAudit, PersistedDeadLetter, PersistedEvent,
        )
        from papyra.persistence.payload import json_payload
        from papyra.testing import BackendConformance

        KINDS = {kind.__name__: kind for kind in (PersistedEvent, PersistedAudit, PersistedDeadLetter)}


        class TapePersistence(PersistenceBackend):
            '''Keep the record in memory and write it to a file when it is closed.'''

            name = "tape"
            papyra_api = "1.0"

            def __init__(self, path, retention_policy=None):
                self._path = Path(path)
                self._retention = retention_policy or RetentionPolicy()
                lines = self._path.read_text().splitlines() if self._path.exists() else []
                self._tape = [_read(line) for line in lines]
                self._closed = False

            async def record_event(self, event):
                self._add(event)

            async def record_audit(self, audit):
                self._add(audit)

            async def record_dead_letter(self, dead_letter):
                self._add(dead_letter)

            async def list_events(self, *, event_type=None, actor=None, **span):
                return self._find(PersistedEvent, event_type=event_type, actor_address=actor, **span)

            async def list_audits(self, **span):
                return self._find(PersistedAudit, **span)

            async def list_dead_letters(self, *, message_type=None, actor=None, **span):
                return self._find(PersistedDeadLetter, message_type=message_type, target=actor, **span)

            async def compact(self, *, dry_run=False):
                self._refuse_if_closed()
                kept, before = self._kept(), len(self._tape)
                if not dry_run:
                    self._tape = kept
                    self.metrics.compactions += 1
                return CompactionReport(self.name, before, len(kept), None, None)

            async def aclose(self):
                if not self._closed:
                    self._closed = True
                    self._path.write_text("".join(f"{_line(record)}\n" for record in self._tape))

            @property
            def closed(self):
                return self._closed

            def _add(self, record):
                self._refuse_if_closed()
                self._tape.append(_read(_line(record)))
                self.metrics.records_written += 1

            def _kept(self):
                newest_first = reversed(self._tape)
                kept = self.retention.newest_kept(newest_first, self.time_fn(), lambda one: len(_line(one)))
                return kept[::-1]

            def _find(self, kind, limit=None, since=None, until=None, **wanted):
                self._refuse_if_closed()
                if limit is not None and limit < 0:
                    raise ValueError(f"limit must not be negative, but is {limit}")
                found = [
                    one
                    for one in self._kept()
                    if isinstance(one, kind)
                    and (since is None or one.timestamp >= since)
                    and (until is None or one.timestamp <= until)
                    and all(value is None or getattr(one, name) == value for name, value in wanted.items())
                ]
                return found if limit is None else found[max(0, len(found) - limit) :]


        def _line(record):
            # json_payload makes of anything what JSON can hold, so that no record can spoil the file
            return json.dumps([type(record).__name__, json_payload(asdict(record), limit=100_000)])


        def _read(line):
            kind, fields = json.loads(line)
            lists = {name: tuple(fields[name]) for name in ("registry_orphans", "registry_dead") if name in fields}
            return KINDS[kind](**{**fields, **lists})


        class TestTapePersistence(BackendConformance):
            durable = True

            @pytest.fixture
            def open_backend(self, tmp_path):
                return lambda retention_policy=None: TapePersistence(tmp_path / "tape", retention_policy)

            @pytest.fixture
            def backend_url(self, tmp_path):
                return f"tape:{tmp_path / 'url'}"

    That backend blocks the event loop while it reads and writes its file, which a real one must not do; no
    test can tell reliably.
    """
