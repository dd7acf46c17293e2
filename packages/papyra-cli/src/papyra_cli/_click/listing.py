"""The names of installed commands and backends, for `--help` and completion: read from metadata, with nothing loaded.

Not by `papyra.plugins`, though the rules are its: importing it imports all of `papyra`, which takes longer
than everything else that `papyra --help` does.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distributions

__all__ = ["installed_names"]

_HEADER = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)


def installed_names(group: str) -> dict[str, str]:
    """Return each name in an entry-point group with the distribution that brings it, as in ``"toy 1.0"``.

    A distribution whose files can't be read is left out.
    """
    found: dict[str, str] = {}
    for distribution in distributions():
        try:
            names = [point.name for point in distribution.entry_points if point.group == group and point.name]
            label = _label(distribution) if names else ""
        except Exception:  # noqa: BLE001, S112 - files of strangers, malformed in any way: no reason to have no help
            continue
        for name in names:
            found.setdefault(name, label)
    return found


def _label(distribution: Distribution) -> str:
    # Not `distribution.metadata`: the email parser behind it costs 12 ms.
    text = distribution.read_text("METADATA") or ""
    headers: dict[str, str] = dict(_HEADER.findall(text.partition("\n\n")[0]))
    return f"{headers.get('Name', 'an unknown distribution')} {headers.get('Version', '')}".rstrip()
