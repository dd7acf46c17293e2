"""Compressed sets: what they look like, how to make them, and when they are made."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable

import anyio

from papyra_json._segment.codec import codec_for
from papyra_json._segment.writer import Packer

HAS_ZSTD = importlib.util.find_spec("compression") is not None
CODECS = ["gzip", "zstd"] if HAS_ZSTD else ["gzip"]
SUFFIX = {"gzip": ".gz", "zstd": ".zst"}


def pack(path, content: bytes, compress: str = "gzip", step: int = 10**6) -> None:
    """Write a compressed file as the store does; each block holds about ``block_size`` bytes of lines."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    packer = Packer(fd, codec_for(compress))
    lines = content.splitlines(keepends=True)
    while lines:
        size = 0
        while lines and size < step:
            size += len(lines[0])
            packer.write(lines.pop(0))
        packer.finish()
    os.close(fd)


def names(path) -> list[str]:
    """Return how the names of the files of a set go on behind that of its base, also of those beside it."""
    return sorted(file.name.removeprefix(path.name) for file in path.parent.iterdir())


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so that another thread or process brings about."""
    with anyio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.002)


async def compressed(path) -> None:
    """Wait until no full file is left to compress."""
    await until(lambda: not any(re.fullmatch(r"\.\d+|.*tmp.*", name) for name in names(path)))
