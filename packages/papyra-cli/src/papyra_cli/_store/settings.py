"""The configuration, as an application in this folder sees it."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from papyra.plugins import describe
from papyra.settings import find_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra.settings import FoundSetting

__all__ = ["complaint", "found_settings"]


def found_settings() -> Iterator[FoundSetting]:
    """Yield every configured value in the order of precedence; each place is read when its turn comes."""
    folder = Path.cwd()
    if os.environ.get("PAPYRA_SETTINGS_MODULE") and str(folder) not in sys.path:
        sys.path.append(str(folder))  # a console script finds its own folder there, not the user's
    settings = find_settings(project=folder)
    while True:
        with redirect_stdout(sys.stderr):  # an application's import may print
            setting = next(settings, None)
        if setting is None:
            return
        yield setting


def complaint(setting: FoundSetting) -> str:
    """Return the problem of a value and its place, "" if there is none."""
    error = setting.error
    if error is None:
        return ""
    text = str(error) if isinstance(error, ValueError | ImportError) else describe(error)
    place = setting.origin.partition("=")[0]
    return text if setting.name or place in text else f"can't load {setting.origin}: {text}"
