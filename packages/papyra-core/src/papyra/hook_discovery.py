"""Hook discovery: finds the hooks of an object, for `papyra.SystemHooks` and for plugins alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from papyra.exceptions import PluginError
from papyra.hooks import HOOK_NAMES, SystemHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    import pluggy

    # A hook's argument is as its specification says; here all hooks are alike.
    Call: TypeAlias = Callable[[Any], object]

__all__ = ["FoundHooks", "check_hooks", "find_hooks"]


class FoundHooks(NamedTuple):
    """Calls by the name of their hook, and the problem of the object, if it has one."""

    calls: Mapping[str, Call]
    problem: str = ""


def find_hooks(observer: object) -> FoundHooks:
    """Find the hooks of a `SystemHooks`, of a module or object with marked functions, or of any object.

    An object without marked functions has those hooks that it has callables for: ``on_event`` and so on. A
    class is called to make an object first. Errors from reading the object are raised, and so is pluggy's
    ``PluginValidationError`` for a function whose arguments do not fit its specification.
    """
    if isinstance(observer, type):
        observer = observer()
    if isinstance(observer, SystemHooks):
        hooks = {name: cast("Call | None", getattr(observer, name)) for name in HOOK_NAMES}
        return FoundHooks({name: hook for name, hook in hooks.items() if hook is not None})
    # Imported here, because most systems have no such hooks and need no pluggy.
    import pluggy

    from papyra import hookspecs

    # One manager for each object: a call of several plugins would end at the first error.
    manager = pluggy.PluginManager("papyra")
    manager.add_hookspecs(hookspecs)
    manager.register(observer)
    callers = {caller.name: caller for caller in manager.get_hookcallers(observer) or ()}
    if not callers:
        named = {name: getattr(observer, name, None) for name in HOOK_NAMES}
        plain: dict[str, Call] = {name: hook for name, hook in named.items() if callable(hook)}
        return FoundHooks(plain, "" if plain else _problem(callers))
    calls = {name: _call(callers[name]) for name in HOOK_NAMES if name in callers}
    return FoundHooks(calls, _problem(callers))


def check_hooks(loaded: object) -> Iterable[str]:
    """Return the names of a hook plugin's hooks, or raise `PluginError` for a problem.

    For `inspect_plugin`.
    """
    hooks = find_hooks(loaded)
    if hooks.problem:
        raise PluginError(hooks.problem) from TypeError(hooks.problem)
    return hooks.calls


def _call(caller: pluggy.HookCaller) -> Call:
    assert caller.spec is not None  # noqa: S101 - every name in HOOK_NAMES has a specification
    (argument,) = caller.spec.argnames

    def call(value: object) -> object:
        results = cast("list[object]", caller(**{argument: value}))
        return results[0] if results else None

    return call


def _problem(callers: Mapping[str, pluggy.HookCaller]) -> str:
    if not callers:
        return "it has no hooks; mark its functions with papyra.hookspecs.hookimpl"
    unknown = [
        name
        for name, caller in callers.items()
        if name not in HOOK_NAMES and not all(found.optionalhook for found in caller.get_hookimpls())
    ]
    return f"there is no hook {', '.join(unknown)}; hooks are {', '.join(HOOK_NAMES)}" if unknown else ""
