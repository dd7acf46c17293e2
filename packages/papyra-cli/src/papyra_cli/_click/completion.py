"""Values for shell completion that depend on what is installed and what is in the chosen store.

Nothing here may print, raise or keep a shell waiting. A value comes into a command line as it is, and people press
Enter on it; so of the names in a store only those are offered that no shell reads as anything but a word.
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

__all__ = ["actors", "backend_urls", "event_types", "message_types", "targets"]

_R = TypeVar("_R")
_Completer: TypeAlias = "Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]"

_EVENT_TYPES = ("ActorStarted", "ActorRestarted", "ActorStopped", "ActorCrashed")
_NEWEST = 200  # records that are looked at
_PATIENCE = 0.5  # seconds
_WORD = re.compile(r"[\w@+./:][\w@+./:-]{0,99}")


def _from_store(
    newest: Callable[[PersistenceBackend], Awaitable[Sequence[_R]]],
    name: Callable[[_R], str],
    known: Iterable[str] = (),
) -> _Completer:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        return _offered([*known, *map(name, _read(ctx, newest))], incomplete)

    return complete


event_types = _from_store(
    lambda store: store.list_events(limit=_NEWEST), lambda it: it.event_type, _EVENT_TYPES
)
actors = _from_store(lambda store: store.list_events(limit=_NEWEST), lambda it: it.actor_address)
message_types = _from_store(lambda store: store.list_dead_letters(limit=_NEWEST), lambda it: it.message_type)
targets = _from_store(lambda store: store.list_dead_letters(limit=_NEWEST), lambda it: it.target)


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
            with anyio.move_on_after(_PATIENCE):
                return await newest(backend)
            return ()
        finally:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await backend.aclose()

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            path = ctx.params.get("path")
            store = choose_store(path and os.path.expanduser(path), ctx.params.get("backend"))  # noqa: PTH111 - a path as typed, "./" too
            # A file that is not there has nothing to offer, and opening it might make it.
            return () if store.missing_file() else anyio.run(read, store.url)
        except Exception:  # noqa: BLE001 - whatever is wrong with the store, a completion is no place to tell
            return ()


def _files(path: str) -> list[str]:
    folder, slash, _ = path.rpartition("/")
    try:
        with os.scandir(folder + slash or ".") as entries:
            return [f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries]
    except OSError:
        return []
