"""Print the public names of the installed package ``papyra`` as JSON, for test_h20_names.py.

It imports the package and looks at the objects; it reads no source. Given the report of another environment,
it looks for the modules and names in there alone, also for those that a module hands on without listing them.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import Any


def parameters(function: Any) -> list[str] | None:
    """Return the names of a function's parameters, ``*`` before those that are keywords only."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [
        ("*" if each.kind is each.KEYWORD_ONLY else "") + each.name for each in found if each.name != "self"
    ]


def members(kind: type) -> dict[str, list[str] | None]:
    """Return the public members of a class, with the parameters of its methods."""
    found: dict[str, list[str] | None] = {}
    for name in dir(kind):
        if name.startswith("_"):
            continue
        try:
            value = inspect.getattr_static(kind, name)
        except AttributeError:
            continue
        function = getattr(value, "__func__", value)
        found[name] = parameters(function) if inspect.isfunction(function) else None
    for name in [*getattr(kind, "__annotations__", ()), *getattr(kind, "__dataclass_fields__", ())]:
        if not name.startswith("_"):
            found.setdefault(name, None)
    if issubclass(kind, Enum):
        found.update(dict.fromkeys(kind.__members__))  # aliases are not in dir()
    return found


def describe(value: object) -> dict[str, Any]:
    if inspect.isclass(value):
        kind = (
            "enum"
            if issubclass(value, Enum)
            else "exception"
            if issubclass(value, BaseException)
            else "class"
        )
        return {"kind": kind, "parameters": parameters(value.__init__), "members": members(value)}
    if inspect.isroutine(value):
        return {"kind": "function", "parameters": parameters(value)}
    return {"kind": "value"}


def public(module: Any) -> list[str]:
    names = getattr(module, "__all__", None)
    return sorted(names if names is not None else [name for name in vars(module) if not name.startswith("_")])


def main() -> None:
    warnings.simplefilter("ignore")
    import papyra

    wanted: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text("utf-8")) if len(sys.argv) > 1 else {}
    names = [each.name for each in pkgutil.walk_packages(papyra.__path__, "papyra.", onerror=lambda _: None)]
    modules = ["papyra", *(name for name in names if "._" not in name and (not wanted or name in wanted))]
    report: dict[str, Any] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            report[name] = {"error": str(error)}
            continue
        entries = {}
        for each in public(module):
            value = getattr(module, each, None)
            home = getattr(value, "__module__", None)
            if inspect.ismodule(value) or (
                name != "papyra" and not hasattr(module, "__all__") and home != name
            ):
                continue
            entries[each] = describe(value)
        for each in wanted.get(name, ()):
            if each not in entries and hasattr(module, each):
                entries[each] = describe(getattr(module, each))
        report[name] = entries
    print(json.dumps(report))


if __name__ == "__main__":
    main()
