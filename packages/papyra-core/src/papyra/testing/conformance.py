"""Prove that a store of facts keeps the contract of `papyra.persistence.PersistenceBackend`."""

from __future__ import annotations

from papyra.testing._conformance.base import OpenBackend
from papyra.testing._conformance.cancelling import CancellingPromises
from papyra.testing._conformance.care import CarePromises
from papyra.testing._conformance.damage import DamagePromises
from papyra.testing._conformance.following import FollowingPromises
from papyra.testing._conformance.model import ModelPromises
from papyra.testing._conformance.paging import PagingPromises
from papyra.testing._conformance.reading import ReadingPromises
from papyra.testing._conformance.retention import RetentionPromises
from papyra.testing._conformance.servers import ServerPromises
from papyra.testing._conformance.size import SizePromises
from papyra.testing._conformance.writing import WritingPromises

__all__ = ["BackendConformance", "OpenBackend"]


class BackendConformance(
    WritingPromises,
    ReadingPromises,
    FollowingPromises,
    PagingPromises,
    RetentionPromises,
    DamagePromises,
    CancellingPromises,
    CarePromises,
    ServerPromises,
    ModelPromises,
    SizePromises,
):
    """Every promise of the backend contract as a test, on asyncio and on trio.

    Subclass it in a test module; the page "Write a backend" has a complete example::

        class TestTapePersistence(BackendConformance):
            durable = True

            @pytest.fixture
            def open_backend(self, tmp_path):
                return lambda retention_policy=None: TapePersistence(tmp_path / "tape", retention_policy)

    The fixture ``open_backend`` is all that must be there. It returns a function
    ``open(retention_policy=None)`` that opens the store of the running test, which is empty at first; each
    call opens the same one again, once the backend before it is closed. Without a policy it keeps everything,
    or at least 1,000 records of any age.

    What else there is to say, each with a default that asks less of the store:

    - ``durable = True`` if a store that was closed shows its records when it is opened again;
    - ``shared = True`` if several backends may have it open at once;
    - the fixture ``backend_url`` names an empty store as a URL without retention options, where the scheme
      alone, as in ``memory:``, will not do;
    - the fixture ``damage_store`` returns a function that spoils the closed store so that a scan finds it,
      and leaves what was recorded as it is: then scans and recoveries of damage are tested as well. If the
      function returns the damaged bytes, or a list of them, the quarantine must have them all;
    - the fixture ``read_quarantine`` returns a function that reads the quarantine, where its names are not
      files;
    - ``keeps_batch_ids = True`` if a batch that is offered again with its id is stored once;
    - the fixture ``fill_store`` returns a function that makes a context in which the store has no room, as
      `papyra.testing.full_disk` does for a file;
    - the fixture ``wire`` returns a `papyra.testing.Wire` that leads to the server of the store, and through
      which the backends of ``open_backend`` connect: it is cut at every message of a write, and stalled;
    - the fixtures ``restart_store``, ``cut_wire`` and ``stall_store`` say how to disturb a server by other
      means: they return functions that kill and restart it, cut its connections, and make a context in which
      it does not answer;
    - ``examples`` is how many orders of calls Hypothesis tries, if it is installed; the fixture
      ``record_size`` returns a function that measures a record, so that limits in bytes are tried too;
    - ``smoke_records = 1_000_000`` adds a test that writes that many records, and reads them in every way;
    - ``patience`` is after how many seconds a test is taken to hang.

    What a backend may leave out (``progress`` of scan and compact) is tested where it is there. The tests
    close what they open. They need pytest with the plugin that anyio brings (it loads by itself), and trio if
    the backend shall be tested there. A backend may be opened outside an event loop. Further tests of your
    own, and your own fixtures, also async ones, may be in the same class.

    A store that is ``shared`` is also written by several processes, if its class is in a module and
    ``backend_url`` names a store. The class need not be installed for that.
    """
