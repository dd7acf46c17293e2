"""Values for shell completion that depend on the installed plugins and on the chosen store.

Nothing here may print, raise or keep a shell waiting. People press Enter on a completed line, so a name from
a store is offered only if every shell reads it as one plain word.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    import click
    from click.shell_completion import CompletionItem

    from papyra.persistence import PersistenceBackend
    from papyra.persistence.models import PersistedDeadLetter, PersistedEvent, PersistedRecord

__all__ = ["Completer", "actors", "backend_urls", "event_types", "message_types", "runs", "targets"]

_R = TypeVar("_R")
Completer: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]"

_EVENT_TYPES = ("ActorStarted", "ActorRestarted", "ActorStopped", "ActorCrashed")
_NEWEST_RECORDS = 200
_MAX_SECONDS = 0.5
_WORD = re.compile(r"[\w@+./:][\w@+./:-]{0,99}")


def _from_store(
    newest: Callable[[PersistenceBackend], Awaitable[Sequence[_R]]],
    names: Callable[[_R], Iterable[str]],
    known: Iterable[str] = (),
) -> Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        values = [name for record in _read(ctx, newest) for name in names(record)]
        return _offered([*known, *values], incomplete)

    return complete


async def _newest_events(backend: PersistenceBackend) -> Sequence[PersistedEvent]:
    return await backend.list_events(limit=_NEWEST_RECORDS)


async def _newest_letters(backend: PersistenceBackend) -> Sequence[PersistedDeadLetter]:
    return await backend.list_dead_letters(limit=_NEWEST_RECORDS)


async def _newest_of_actors(backend: PersistenceBackend) -> Sequence[PersistedRecord]:
    return [*await _newest_events(backend), *await _newest_letters(backend)]


def _names(record: PersistedRecord) -> Iterable[str]:
    from papyra_cli._output.identity import identity_of

    identity = identity_of(record)
    return identity.names if identity else ()


def _runs(record: PersistedRecord) -> Iterable[str]:
    from papyra_cli._output.identity import run_of

    return filter(None, (run_of(record),))


event_types = _from_store(_newest_events, lambda it: (it.event_type,), _EVENT_TYPES)
message_types = _from_store(_newest_letters, lambda it: (it.message_type,))
actors = _from_store(_newest_events, _names)
targets = _from_store(_newest_letters, _names)
runs = _from_store(_newest_of_actors, _runs, ("last",))


def backend_urls(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer the schemes of the installed backends, without loading one, and files behind a scheme."""
    scheme, colon, path = incomplete.partition(":")
    if colon:
        return _offered((f"{scheme}:{name}" for name in _files(path)), incomplete)
    from papyra_cli._click.registry import installed_names

    return _offered((f"{name}:" for name in ("memory", *installed_names("papyra.backends"))), incomplete)


def _offered(names: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    fitting = {name for name in names if name.startswith(incomplete) and _WORD.fullmatch(name)}
    return [CompletionItem(name) for name in sorted(fitting)]


def _read(
    ctx: click.Context, newest: Callable[[PersistenceBackend], Awaitable[Sequence[_R]]]
) -> Sequence[_R]:
    """Return the newest records of the store that the command line so far, or the configuration, names."""
    import anyio

    from papyra.persistence import open_backend
    from papyra_cli._store.choose import choose_store

    async def read(url: str) -> Sequence[_R]:
        backend = open_backend(url)
        try:
            with anyio.move_on_after(_MAX_SECONDS):
                return await newest(backend)
            return ()
        finally:
            with anyio.move_on_after(_MAX_SECONDS, shield=True):
                await backend.aclose()

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            path = ctx.params.get("path")
            store = choose_store(path and os.path.expanduser(path), ctx.params.get("backend"))  # noqa: PTH111 - keeps the path as it was typed, with "./"
            # A missing file has nothing to offer, and opening it might create it.
            return () if store.missing_file() else anyio.run(read, store.url)
        except Exception:  # noqa: BLE001 - a completion cannot report what is wrong with the store
            return ()


def _files(path: str) -> list[str]:
    folder, slash, _ = path.rpartition("/")
    try:
        with os.scandir(folder + slash or ".") as entries:
            return [f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries]
    except OSError:
        return []
