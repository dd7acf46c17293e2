"""The two compressions of full segments, as rows of blocks that can be read one by one.

A block is a gzip member, or a zstd frame behind a skippable frame, of some whole lines. So any tool of the format reads
the segment, and damage in one block leaves the others. Ahead of each block, in the member's extra field or in the
skippable frame, stands what is needed to find, skip and place it: its `Block`, with a CRC.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, cast

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = [
    "MAX_BLOCK",
    "MAX_MAGIC",
    "SUFFIXES",
    "Block",
    "Codec",
    "Compression",
    "DamagedBlock",
    "Decoder",
    "UnreadableHere",
    "codec_for",
    "codec_of",
]

Compression: TypeAlias = Literal["gzip", "zstd"]

MAX_BLOCK = 2**20
"""No block of ours has more content, and none that claims to is read."""

MAX_MAGIC = 4
"""So many first bytes tell which codec a file is of."""

SUFFIXES = ("", ".gz", ".zst")
"""How the name of a segment may end, behind its number."""

_FIELDS = struct.Struct("<QIIdd")
_FIELDS_SIZE = _FIELDS.size + 4  # with their CRC


class UnreadableHere(PersistenceError):
    """A segment is compressed in a way that this Python can't read; nothing is wrong with it."""


class DamagedBlock(Exception):
    """A block can't be unpacked, or is not what its head says."""


class Block(NamedTuple):
    """Where the content of a block begins, how long it is packed and as content, and between which times it lies."""

    start: int
    packed: int
    length: int
    oldest: float
    newest: float


class Decoder(Protocol):
    """What the decompressors of all codecs offer."""

    @property
    def eof(self) -> bool:
        """Whether a member or frame has ended."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What was given behind its end."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most so many bytes more; none if more data is needed, or nothing more comes."""
        ...


class Codec(ABC):
    """A compression: how a block of it is laid out, packed and unpacked."""

    suffix: ClassVar[str]
    magics: ClassVar[tuple[bytes, ...]]
    mark: ClassVar[bytes]
    """With what each of our blocks begins."""
    errors: tuple[type[Exception], ...]
    """What a decompressor raises for damaged bytes."""

    @abstractmethod
    def compress(self, content: bytes) -> bytes:
        """Return what stands in a block behind its head."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """Return a decompressor of one member or frame."""

    @abstractmethod
    def _compressed(self, block: bytes) -> bytes:
        """Return of a block what the decompressor takes."""

    @property
    def head_size(self) -> int:
        """How many bytes of a block come before what is compressed."""
        return len(self.mark) + _FIELDS_SIZE

    def head(self, block: Block) -> bytes:
        """Return the head of a block."""
        fields = _FIELDS.pack(*block)
        return self.mark + fields + zlib.crc32(fields).to_bytes(4, "little")

    def parse(self, head: bytes) -> Block | None:
        """Read the head of a block; None if it is none."""
        fields, crc = head[len(self.mark) : -4], head[-4:]
        if len(head) != self.head_size or not head.startswith(self.mark):
            return None
        if int.from_bytes(crc, "little") != zlib.crc32(fields):
            return None
        block = Block(*_FIELDS.unpack(fields))
        return block if 0 < block.length <= MAX_BLOCK and 0 < block.packed <= 2 * MAX_BLOCK else None

    def unpack(self, block: bytes, length: int) -> bytes:
        """Return the content of a whole block, in no more memory than its ``length`` asks for."""
        decoder = self.decoder()
        try:
            content = decoder.decompress(self._compressed(block), length + 1)
        except self.errors as error:
            raise DamagedBlock(str(error)) from error
        if len(content) != length or not decoder.eof:
            raise DamagedBlock("its length is not as said in its head")
        return content

    def salvage(self, block: bytes, length: int) -> bytes:
        """Return what comes before the damage in a block: byte by byte, for an error loses the whole step."""
        decoder = self.decoder()
        content = bytearray()
        compressed = self._compressed(block)
        try:
            for index in range(len(compressed)):
                if len(content) == length:
                    break
                content += decoder.decompress(compressed[index : index + 1], length - len(content))
        except self.errors:
            pass
        return bytes(content)


class _Gunzip:
    """`zlib`'s decompressor, which keeps its input only on request, with the manners of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Gzip(Codec):
    suffix = ".gz"
    magics = (b"\x1f\x8b",)
    mark = (
        b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
        + (_FIELDS_SIZE + 4).to_bytes(2, "little")
        + b"Py"
        + _FIELDS_SIZE.to_bytes(2, "little")
    )
    errors = (zlib.error,)

    def compress(self, content: bytes) -> bytes:
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        checks = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        return deflate.compress(content) + deflate.flush() + checks

    def decoder(self) -> Decoder:
        return _Gunzip()

    def _compressed(self, block: bytes) -> bytes:
        return block


class _ZstdModule(Protocol):
    """What is used of `compression.zstd`."""

    ZstdError: type[Exception]
    ZstdDecompressor: Callable[[], Decoder]

    def compress(self, data: bytes, *, options: Mapping[int, int]) -> bytes: ...


_ZSTD_OPTIONS = {100: 3, 201: 1}  # the level, and that there is a checksum
_FRAME = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x5a\x2a\x4d\x18"


class _Zstd(Codec):
    suffix = ".zst"
    magics = (_FRAME, _SKIPPABLE)
    mark = _SKIPPABLE + (_FIELDS_SIZE + 2).to_bytes(4, "little") + b"Py"

    def __init__(self) -> None:
        # An ImportError here means that Python is older than 3.14, or was built without zstd.
        self._module = cast("_ZstdModule", import_module("compression.zstd"))
        self.errors = (self._module.ZstdError,)

    def compress(self, content: bytes) -> bytes:
        return self._module.compress(content, options=_ZSTD_OPTIONS)

    def decoder(self) -> Decoder:
        return self._module.ZstdDecompressor()

    def _compressed(self, block: bytes) -> bytes:
        return block[self.head_size :]


def codec_for(compress: object) -> Codec:
    """Return the codec of a name; a `ValueError` says why there is none."""
    if compress == "gzip":
        return _Gzip()
    if compress != "zstd":
        raise ValueError(f"compress must be 'gzip', 'zstd' or None, not {compress!r}")
    try:
        return _Zstd()
    except ImportError as error:
        raise ValueError(
            f"compress='zstd' needs Python 3.14 or newer, built with zstd ({error}); take 'gzip'"
        ) from error


def codec_of(path: Path, magic: bytes) -> Codec | None:
    """Return the codec of a file by its first bytes; None if it is not compressed."""
    if magic.startswith(_Gzip.magics):
        return _Gzip()
    if not magic.startswith(_Zstd.magics):
        return None
    try:
        return _Zstd()
    except ImportError as error:
        raise UnreadableHere(
            f"{path} is compressed with zstd, which needs Python 3.14 or newer, built with zstd ({error})"
        ) from error
