"""Messages, replies and errors as a type name and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra import ActorRef
from papyra_contrib.cluster._errors import ActorStopped, MessageRejected, RemoteFailure
from papyra_contrib.cluster._messages import (
    FIXED_ERRORS,
    JSON_TYPE,
    REF_TYPE,
    Registered,
    all_registered,
    check_json,
    registered,
    registered_as,
)
from papyra_contrib.cluster._wire.frames import MAX_ERROR_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster.codec import Codec, References

__all__ = ["WireValues"]

_UNREGISTERED = "-"
"""Prefix of the name of an exception class without a registration. No wire name begins with it."""


class WireValues:
    """Encodes and decodes with one codec.

    All decoders are built at once, so that a bad type fails at the start.
    """

    def __init__(self, codec: Codec, refs: References, max_bytes: int) -> None:
        self._codec = codec
        self._refs = refs
        self.max_bytes = max_bytes
        self._encoders: dict[type[Any], Callable[[Any], bytes]] = {}
        self._decoders: dict[str, Callable[[bytes], Any]] = {}
        self._json_encode = codec.encoder(None, refs)
        self._json_decode = codec.decoder(Any, refs)
        for entry in all_registered():
            self._decoder(entry)

    def dump(self, value: object) -> tuple[str, bytes]:
        """Return the type name and the bytes of a message or reply; `MessageRejected` if it can't be sent."""
        try:
            name, body = self._dump(value)
        except MessageRejected:
            raise
        except Exception as error:  # an encoder is user code, and may raise anything
            raise MessageRejected(
                "invalid", f"{type(value).__qualname__} can't be encoded: {type(error).__name__}: {error}"
            ) from error
        if len(body) > self.max_bytes:
            raise MessageRejected(
                "too_large",
                f"{type(value).__qualname__} takes {len(body)} bytes on the wire, but at most {self.max_bytes} are "
                "allowed; send the place of the data instead",
            )
        return name, body

    def _dump(self, value: object) -> tuple[str, bytes]:
        entry = registered(type(value))
        if entry is not None:
            encode = self._encoders.get(entry.type)
            if encode is None:
                encode = entry.encode or self._codec.encoder(entry.type, self._refs)
                self._encoders[entry.type] = encode
            return entry.name, encode(value)
        if isinstance(value, ActorRef):
            return REF_TYPE, self._refs.dump(value).encode("utf-8")  # pyright: ignore[reportUnknownArgumentType]  # of any messages
        check_json(value)
        return JSON_TYPE, self._json_encode(value)

    def load(self, name: str, body: bytes) -> object:
        """Return the value; `MessageRejected` if the name is unknown or the bytes don't fit."""
        if len(body) > self.max_bytes:
            raise MessageRejected("too_large", f"{len(body)} bytes, but at most {self.max_bytes} are allowed")
        try:
            if name == JSON_TYPE:
                return self._json_decode(body)
            if name == REF_TYPE:
                return self._refs.load(body.decode("utf-8"))
            entry = registered_as(name)
            if entry is None or issubclass(entry.type, BaseException):
                raise MessageRejected(
                    "unknown_type", f"the wire name {name!r} is not known here; register it with @message"
                )
            return self._decoder(entry)(body)
        except MessageRejected:
            raise
        except Exception as error:  # noqa: BLE001 - a decoder is user code, the bytes may be hostile, and deep ones raise RecursionError
            text = f"{type(error).__name__}: {error}"[:200]
            raise MessageRejected("invalid", f"the bytes of {name!r} are invalid: {text}") from None

    def _decoder(self, entry: Registered) -> Callable[[bytes], Any]:
        decode = self._decoders.get(entry.name)
        if decode is None:
            if entry.decode is not None or issubclass(entry.type, BaseException):
                decode = entry.decode or bytes.decode
            else:
                decode = self._build(entry)
            self._decoders[entry.name] = decode
        return decode

    def _build(self, entry: Registered) -> Callable[[bytes], Any]:
        try:
            return self._codec.decoder(entry.type, self._refs)
        except (TypeError, NameError, AttributeError) as error:
            raise TypeError(
                f"the message {entry.name!r} ({entry.type!r}) can't be decoded: {error}. Annotations are resolved at "
                "run time: import their names outside of `if TYPE_CHECKING`"
            ) from error

    def dump_error(self, error: BaseException) -> tuple[str, bytes]:
        """Return the type name and the text of an actor's exception, cut at 4 KiB."""
        if isinstance(error, MessageRejected):
            return f"!{error.code}", _text(error)
        if isinstance(error, ActorStopped):
            return ActorStopped.__name__, _text(error)
        entry = registered(type(error))
        if entry is not None:
            return entry.name, _text(error)
        kind = type(error)
        name = kind.__qualname__
        if FIXED_ERRORS.get(name) is kind:
            return name, _text(error)
        if name in FIXED_ERRORS or registered_as(name) is not None:
            name = f"{kind.__module__}.{name}"  # for the reader of a `RemoteFailure`
        return _safe(_UNREGISTERED + (name or "Exception")), _text(error)

    def load_error(self, name: str, body: bytes, actor: object) -> Exception:
        """Return the exception that an asker raises.

        The name of a fixed class means that class. Any other name means the class that is registered here.
        """
        text = body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
        if name.startswith("!"):
            return MessageRejected(name[1:], text)
        if name == ActorStopped.__name__:
            return ActorStopped(actor, "stopped before it replied")
        entry = registered_as(name)
        kind = FIXED_ERRORS.get(name) or (entry.type if entry is not None else None)
        if kind is not None and issubclass(kind, Exception):
            try:
                return kind(text)
            except Exception:  # noqa: BLE001, S110 - an exception class that takes other arguments: shown as any other
                pass
        return RemoteFailure(name.removeprefix(_UNREGISTERED), text)


def _text(error: BaseException) -> bytes:
    try:
        # str() of a KeyError is the repr of its key.
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        return str(text).encode("utf-8", "replace")[:MAX_ERROR_BYTES]
    except Exception:  # noqa: BLE001 - an exception's text is user code
        return b"<the text of this exception raised>"


def _safe(name: str) -> str:
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "_" for letter in name
    )
    return kept[:128]
