"""The settings of an application, loaded the way the application loads them."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, cast

from papyra_cli._failure import Failure
from papyra_cli._json import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["settings_values"]


def settings_values() -> tuple[Mapping[str, object], str]:
    """Return the settings by name and where they come from; what can't be loaded is a `Failure`."""
    module = os.environ.get("PAPYRA_SETTINGS_MODULE", "")
    if module and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a console script has its own folder there, not the user's
    try:
        from papyra.settings import load_settings

        with redirect_stdout(sys.stderr):  # an application's import may print
            values = cast("dict[str, object]", as_json(load_settings()))
    except Exception as error:
        raise Failure(
            f"can't load the settings of PAPYRA_SETTINGS_MODULE={module}: {type(error).__name__}: {error}; "
            "mend them, or give --path or --backend"
        ) from error
    return values, f"PAPYRA_SETTINGS_MODULE={module}" if module else "default"
