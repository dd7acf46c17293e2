"""Messages to bytes and back: the interface `Codec`, and its implementation with msgspec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol, get_origin

from papyra import ActorRef
from papyra_contrib.cluster._messages import message

try:
    import msgspec
except ImportError as error:
    raise ImportError("the library msgspec is missing: pip install 'papyra-contrib[cluster]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Codec", "MsgspecCodec", "References", "message"]


class References(Protocol):
    """Writes references to actors as text, and reads them again."""

    def dump(self, ref: ActorRef[Any, Any]) -> str:
        """Return the cluster-wide address of ``ref``, which other nodes can reach from now on."""
        ...

    def load(self, text: str) -> ActorRef[Any, Any]:
        """Return the reference to an address; `ValueError` if it is invalid."""
        ...


class Codec(ABC):
    """Makes encoders and decoders for registered types. Both are made once for each type."""

    @abstractmethod
    def encoder(self, kind: Any, refs: References) -> Callable[[Any], bytes]:
        """Return a function from an object of the type to bytes. It may raise any exception."""

    @abstractmethod
    def decoder(self, kind: Any, refs: References) -> Callable[[bytes], Any]:
        """Return a function from bytes to a checked object of the type.

        Raises `TypeError` or `NameError` here, at the start of a system, if the type can't be used.
        """


class MsgspecCodec(Codec):
    """JSON by msgspec.

    Encodes dataclasses, structs, attrs classes, enums, dates, UUIDs, and references in fields.
    """

    def encoder(self, kind: Any, refs: References) -> Callable[[Any], bytes]:
        """Return the encode method of a msgspec encoder."""

        def write(value: Any) -> str:
            if isinstance(value, ActorRef):
                return refs.dump(value)  # pyright: ignore[reportUnknownArgumentType]  # of any messages
            raise NotImplementedError(f"{type(value).__qualname__} can't be encoded")

        return msgspec.json.Encoder(enc_hook=write).encode

    def decoder(self, kind: Any, refs: References) -> Callable[[bytes], Any]:
        """Return the decode method of a msgspec decoder of the type."""

        def read(wanted: Any, value: Any) -> Any:
            if (get_origin(wanted) or wanted) is ActorRef and isinstance(value, str):
                return refs.load(value)
            raise NotImplementedError(f"{wanted} can't be decoded")

        return msgspec.json.Decoder(kind, dec_hook=read).decode
