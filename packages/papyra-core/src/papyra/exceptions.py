"""Every error that Papyra raises on purpose, all below `PapyraError`.

Texts that several places need are built here, so that one error reads the same
wherever it comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "ActorNameTaken",
    "ActorStopped",
    "AskDeadlock",
    "AskTimeout",
    "BackendURLError",
    "MailboxClosed",
    "MailboxFull",
    "NotClustered",
    "PapyraError",
    "PartialWriteError",
    "PersistenceError",
    "PluginError",
    "Reject",
    "ReplyDropped",
    "StashOverflow",
    "StoreFull",
    "SystemNotRunning",
    "UnhandledMessage",
    "UnknownBackend",
    "UnknownTransport",
]


class PapyraError(Exception):
    """Base of every error that Papyra raises on purpose. It can be copied and pickled whole."""

    def __reduce__(self) -> tuple[object, ...]:
        # Not by calling the class again: its text would be built from a text.
        return _rebuilt, (type(self), self.args, dict(vars(self)))


class MailboxClosed(PapyraError):
    """The mailbox takes no more messages."""


class ActorStopped(MailboxClosed):
    """The actor has stopped, is stopping, or stopped before it replied.

    The text says why. When a failure stopped the actor before it replied, that failure is the ``__cause__``.
    ``actor`` is its address.
    """

    def __init__(self, actor: object = None, what: str | None = None) -> None:
        if what is None:
            says: Callable[[], str] | None = getattr(actor, "says_why_stopped", None)
            what = f"{'is stopped or stopping' if says is None else says()} and takes no messages"
        super().__init__(f"actor {actor} {what}" if actor is not None else "the actor is stopped")
        self.actor = _address(actor)


class MailboxFull(PapyraError):
    """The mailbox has no room, and the sender does not wait for any. The message was not sent."""

    def __init__(self, actor: object = None, capacity: int | None = None) -> None:
        super().__init__(
            f"the mailbox of actor {actor} is full: {capacity} messages wait. "
            "Send fewer, wait with `await ref.tell(...)`, or spawn the actor with a larger mailbox_capacity"
        )
        self.actor = _address(actor)
        self.capacity = capacity


class Reject(PapyraError):
    """``raise Reject(error)`` in ``receive`` answers the asker with ``error``. The actor has not failed.

    The actor keeps its state: it does not restart, the record has no crash, and no supervisor decides. After
    a tell no caller waits, so the error is dropped. In other methods than ``receive`` it is an error like any
    other.
    """

    def __init__(self, error: Exception) -> None:
        if not isinstance(error, Exception):
            raise TypeError(
                f"Reject takes an exception, such as Reject(ValueError('...')), not {type(error).__name__}"
            )
        super().__init__(error)
        self.error = error


class StashOverflow(PapyraError):
    """The stash of the actor is full."""

    def __init__(self, actor: object = None, capacity: int | None = None) -> None:
        super().__init__(
            f"the stash of actor {actor} is full: it holds {capacity} messages. "
            "Call unstash_all() in time, or set a larger stash_capacity in the actor's class"
        )
        self.actor = _address(actor)
        self.capacity = capacity


class UnhandledMessage(PapyraError):
    """The actor has no code for the message, and said so with ``context.unhandled(message)``."""

    def __init__(self, actor: object = None, message_type: str = "unknown") -> None:
        super().__init__(f"actor {actor} does not handle messages of type {message_type}")
        self.actor = _address(actor)
        self.message_type = message_type


class ReplyDropped(PapyraError):
    """The actor took a `papyra.reply.Reply` to answer later, and lost it without an answer."""

    def __init__(self, actor: object = None) -> None:
        super().__init__(
            f"actor {actor} dropped the handle of reply_later() unanswered. "
            "Keep the handle until you call its send() or fail()"
        )
        self.actor = _address(actor)


class AskTimeout(PapyraError, TimeoutError):
    """No reply came within the ask's ``timeout``. A late reply is dropped."""

    def __init__(self, actor: object = None, timeout: float | None = None) -> None:
        super().__init__(f"actor {actor} did not reply within {timeout} s")
        self.actor = _address(actor)
        self.timeout = timeout


class AskDeadlock(PapyraError):
    """Waiting would never end: the actors named in ``cycle``, by their addresses, wait for each other.

    ``wait`` is what the last one was about to wait for: a ``reply``, ``room`` in a mailbox, or a ``stop``.
    """

    _ADVICE: ClassVar[dict[str, tuple[str, str]]] = {
        "reply": (
            "waiting here would never end",
            "Use tell() and let the answer come as a message, or ask from a task of your own",
        ),
        "room": (
            "waiting for room in a full mailbox would never end",
            (
                "Spawn the actor with a larger mailbox_capacity, send with tell_nowait(), spread the work over a pool, "
                "or send from a task of your own with context.start_soon()"
            ),
        ),
        "stop": (
            "waiting for this stop would never end",
            "Let the actor stop itself with context.stop_self(), and watch it",
        ),
    }

    def __init__(self, cycle: Sequence[object] = (), wait: str = "reply") -> None:
        path = " -> ".join(str(step) for step in cycle)
        problem, advice = self._ADVICE[wait]
        super().__init__(f"{problem}, because the wait goes in a circle: {path}. {advice}")
        self.cycle = tuple(map(_address, cycle))
        self.wait = wait


class SystemNotRunning(PapyraError, RuntimeError):
    """The actor system was not started yet, or is closed."""

    def __init__(self, system_id: str, action: str, *, closed: bool) -> None:
        hint = (
            "it is closed. Make a new ActorSystem"
            if closed
            else "it is not started. Use `async with ActorSystem() as system:` or `await system.start()` first"
        )
        super().__init__(f"can't {action} in actor system {system_id!r}: {hint}")


class ActorNameTaken(PapyraError, ValueError):
    """A living actor has this name already."""

    def __init__(self, name: str, holder: object) -> None:
        super().__init__(
            f"an actor named {name!r} is alive already ({holder}); names are unique among living actors"
        )
        self.name = name


class PersistenceError(PapyraError):
    """A store could not do what it was asked to do.

    For a failed write, ``retry`` says whether the system offers the batch again: True if it may succeed later
    (the server is away, the disk is full), False if it never will, None to leave it to
    `PersistenceBackend.retries`.
    """

    def __init__(self, *args: object, retry: bool | None = None) -> None:
        super().__init__(*args)
        self.retry = retry


class StoreFull(PersistenceError):
    """The store is there and has no room for a record: its disk, quota or memory is full.

    By default the system offers the batch again, because there may be room later.
    """

    def __init__(self, *args: object, retry: bool | None = True) -> None:
        super().__init__(*args, retry=retry)


class PartialWriteError(PersistenceError):
    """Some records of a batch were not stored.

    ``failed`` counts them; the others of the batch are stored. The first error is the ``__cause__``. With
    ``retry`` they are the last ones of the batch, and the system offers those again, as a batch of their own.
    """

    def __init__(self, failed: int, total: int, *, retry: bool = False) -> None:
        super().__init__(f"{failed} of {total} records were not stored", retry=retry)
        self.failed = failed


class BackendURLError(PersistenceError, ValueError):
    """A backend URL is malformed, or names an option or value that the backend does not have."""


class PluginError(PapyraError, ImportError):
    """A plugin is installed but can't be used: it is broken, incompatible or not allowed."""


class UnknownBackend(PersistenceError, LookupError):
    """No installed distribution brings a backend of this name."""

    _BRINGERS: ClassVar[dict[str, str]] = {
        "json": "papyra-json",
        "rotating": "papyra-json",
        "sqlite": "papyra-contrib[sqlite]",
        "redis": "papyra-contrib[redis]",
        "rediss": "papyra-contrib[redis]",
        "postgres": "papyra-contrib[postgres]",
        "postgresql": "papyra-contrib[postgres]",
    }

    def __init__(self, scheme: str, known: Iterable[str]) -> None:
        bringer = self._BRINGERS.get(scheme)
        # The brackets of an extra are globs to some shells.
        install = f"pip install '{bringer}'" if bringer and "[" in bringer else f"pip install {bringer}"
        hint = f"{install} brings it; " if bringer else ""
        super().__init__(
            f"no backend for the scheme {scheme!r}: {hint}installed are {', '.join(sorted(known)) or 'none'}"
        )
        self.scheme = scheme


class NotClustered(PapyraError, RuntimeError):
    """The actor system has no cluster."""

    def __init__(self, system_id: str) -> None:
        super().__init__(
            f"actor system {system_id!r} has no cluster. Pass one, as in "
            "ActorSystem(system_id='a', cluster='nats://127.0.0.1:4222/shop'), or set PAPYRA_CLUSTER"
        )


class UnknownTransport(PapyraError, LookupError):
    """No installed distribution brings a cluster for this scheme."""

    _BRINGERS: ClassVar[dict[str, str]] = {
        "memory": "papyra-contrib[cluster]",
        "nats": "papyra-contrib[nats]",
    }

    def __init__(self, scheme: str, known: Iterable[str]) -> None:
        bringer = self._BRINGERS.get(scheme)
        hint = f"pip install '{bringer}' brings it; " if bringer else ""
        super().__init__(
            f"no cluster for the scheme {scheme!r}: {hint}installed are {', '.join(sorted(known)) or 'none'}"
        )
        self.scheme = scheme


def _address(actor: object) -> object:
    """Return the address of an actor: an error may be kept, and must not keep the actor."""
    return getattr(actor, "address", actor)


def _rebuilt(kind: type[PapyraError], args: tuple[object, ...], state: dict[str, object]) -> PapyraError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error
