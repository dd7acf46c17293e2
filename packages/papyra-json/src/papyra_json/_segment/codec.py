"""The two compressions of full segments, as sequences of blocks that can be read one by one.

A block is a gzip member, or a zstd frame after a skippable frame, of some whole lines. So any tool of the
format reads the segment, and damage in one block leaves the others intact. The member's extra field, or the
skippable frame, is the block's header: a `Block` with a CRC, to find, skip and place it.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, cast

from papyra.exceptions import PersistenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BufferedIOBase
    from pathlib import Path

__all__ = [
    "MAX_BLOCK_BYTES",
    "MAX_MAGIC_BYTES",
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

MAX_BLOCK_BYTES = 2**20
"""The most content of a block. A header that claims more is taken as damage."""

MAX_MAGIC_BYTES = 4
"""The number of first bytes that show the codec of a file."""

SUFFIXES = ("", ".gz", ".zst")
"""The endings that the name of a segment may have after its number."""

_HEADER_FIELDS = struct.Struct("<QIIdd")
_FIELDS_BYTES = _HEADER_FIELDS.size + 4  # including their CRC


class UnreadableHere(PersistenceError):
    """The segment may be valid, but this Python lacks the module for its compression."""


class DamagedBlock(Exception):
    """A block can't be decompressed, or differs from its header."""


class Block(NamedTuple):
    """A block's header.

    The offset of its content, its compressed length, its length, and the times of its records.
    """

    start: int
    packed: int
    length: int
    oldest: float
    newest: float


class Decoder(Protocol):
    """The methods that `zlib` and `compression.zstd` decompressors share."""

    @property
    def eof(self) -> bool:
        """Whether the member or frame has ended."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most ``max_length`` bytes of content."""
        ...


class Codec(ABC):
    """A compression: the layout of its blocks, and how to compress and decompress them."""

    suffix: ClassVar[str]
    magics: ClassVar[tuple[bytes, ...]]
    block_magic: ClassVar[bytes]
    """The first bytes of each of our blocks."""
    errors: tuple[type[Exception], ...]
    """The exceptions that damaged bytes raise."""

    @abstractmethod
    def compress(self, content: bytes) -> bytes:
        """Return the compressed bytes of a block, without its header."""

    @abstractmethod
    def open(self, raw: BinaryIO) -> BufferedIOBase:
        """Return a reader of a whole compressed file, for files that another tool wrote."""

    @abstractmethod
    def _decoder(self) -> Decoder:
        """Return a decompressor of one member or frame."""

    @abstractmethod
    def _without_skippable(self, block: bytes) -> bytes:
        """Return the bytes of a block that its decompressor reads."""

    @property
    def header_bytes(self) -> int:
        """The length of a block's header in bytes."""
        return len(self.block_magic) + _FIELDS_BYTES

    def header(self, block: Block) -> bytes:
        """Return the header of a block."""
        fields = _HEADER_FIELDS.pack(*block)
        return self.block_magic + fields + zlib.crc32(fields).to_bytes(4, "little")

    def parse(self, header: bytes) -> Block | None:
        """Read the header of a block; None if the bytes are not a header."""
        fields, crc = header[len(self.block_magic) : -4], header[-4:]
        if len(header) != self.header_bytes or not header.startswith(self.block_magic):
            return None
        if int.from_bytes(crc, "little") != zlib.crc32(fields):
            return None
        block = Block(*_HEADER_FIELDS.unpack(fields))
        return (
            block if 0 < block.length <= MAX_BLOCK_BYTES and 0 < block.packed <= 2 * MAX_BLOCK_BYTES else None
        )

    def unpack(self, block: bytes, length: int) -> bytes:
        """Return the content of a whole block. Damage can't make it allocate more than ``length`` bytes."""
        decoder = self._decoder()
        try:
            content = decoder.decompress(self._without_skippable(block), length + 1)
        except self.errors as error:
            raise DamagedBlock(str(error)) from error
        if len(content) != length or not decoder.eof:
            raise DamagedBlock("its length differs from the one in its header")
        return content


class _Gzip(Codec):
    suffix = ".gz"
    magics = (b"\x1f\x8b",)
    block_magic = (
        b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
        + (_FIELDS_BYTES + 4).to_bytes(2, "little")
        + b"Py"
        + _FIELDS_BYTES.to_bytes(2, "little")
    )
    errors = (zlib.error, gzip.BadGzipFile, EOFError)

    def compress(self, content: bytes) -> bytes:
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        checks = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
        return deflate.compress(content) + deflate.flush() + checks

    def open(self, raw: BinaryIO) -> BufferedIOBase:
        return gzip.open(raw)

    def _decoder(self) -> Decoder:
        return zlib.decompressobj(31)

    def _without_skippable(self, block: bytes) -> bytes:
        return block


class _ZstdModule(Protocol):
    """The part of `compression.zstd` that is used here."""

    ZstdError: type[Exception]
    ZstdFile: Callable[[BinaryIO], BufferedIOBase]
    ZstdDecompressor: Callable[[], Decoder]

    def compress(self, data: bytes, *, options: Mapping[int, int]) -> bytes: ...


_ZSTD_OPTIONS = {100: 3, 201: 1}  # the level, and that there is a checksum
_FRAME = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x5a\x2a\x4d\x18"


class _Zstd(Codec):
    suffix = ".zst"
    magics = (_FRAME, _SKIPPABLE)
    block_magic = _SKIPPABLE + (_FIELDS_BYTES + 2).to_bytes(4, "little") + b"Py"

    def __init__(self) -> None:
        # An ImportError here means that Python is older than 3.14, or was built without zstd.
        self._module = cast("_ZstdModule", import_module("compression.zstd"))
        self.errors = (self._module.ZstdError, EOFError)

    def compress(self, content: bytes) -> bytes:
        return self._module.compress(content, options=_ZSTD_OPTIONS)

    def open(self, raw: BinaryIO) -> BufferedIOBase:
        return self._module.ZstdFile(raw)

    def _decoder(self) -> Decoder:
        return self._module.ZstdDecompressor()

    def _without_skippable(self, block: bytes) -> bytes:
        return block[self.header_bytes :]


def codec_for(compress: object) -> Codec:
    """Return the codec of a name; a `ValueError` says why it can't be used."""
    if compress == "gzip":
        return _Gzip()
    if compress != "zstd":
        raise ValueError(f"compress must be 'gzip', 'zstd' or None, not {compress!r}")
    try:
        return _Zstd()
    except ImportError as error:
        raise ValueError(
            f"compress='zstd' needs Python 3.14 or newer, built with zstd ({error}). Use 'gzip'."
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
