"""Whether a system can take requests: concurrent checks, whose results are reused for a second."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from weakref import WeakKeyDictionary

import anyio

from papyra.exceptions import SystemNotRunning
from papyra_contrib.asgi._system_checks import SystemChecks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from papyra import ActorSystem
    from papyra_contrib.asgi._config import Level

__all__ = ["Check", "CheckResult", "Health", "health_of"]

Status: TypeAlias = Literal["ok", "warn", "fail"]

CHECK_SECONDS = 1.0
"""How long a check may take."""

PATIENCE_SECONDS = CHECK_SECONDS + 0.1
"""After this long a check that goes on can't be cancelled."""

REUSE_SECONDS = 1.0
"""How long a result is reused."""


_TOO_LONG = f"{CHECK_SECONDS:g} s"


@dataclass(frozen=True, slots=True)
class Check:
    """A check of the application.

    ``call`` is an async function. It returns None or a text to show, and raises if the check fails.
    """

    name: str
    call: Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check."""

    name: str
    status: Status
    detail: str
    seconds: float


class Health:
    """The checks of one system and their latest results."""

    def __init__(self, system: ActorSystem, checks: Sequence[Check], levels: Mapping[str, Level]) -> None:
        self._system = system
        self._system_checks = SystemChecks(system)
        self._checks = checks
        self._levels = {
            "system": "fail",
            "store": "warn",
            "mailboxes": "warn",
            "restarts": "warn",
            "stuck": "warn",
        }
        self._levels |= {check.name: "fail" for check in checks} | dict(levels)
        valid = [*SystemChecks.NAMES, *(check.name for check in checks)]
        unknown = sorted(set(levels).difference(valid))
        if unknown:
            raise ValueError(
                f"readyz names the unknown check {unknown[0]!r}; valid ones are {', '.join(valid)}"
            )
        self._lock = anyio.Lock()
        self._partial: dict[str, CheckResult] = {}  # so far, while the checks run
        self._began: float | None = None  # None while no check runs
        self._results: list[CheckResult] = []
        self._until = 0.0

    async def results(self) -> list[CheckResult]:
        """Return what the checks say, at most a second old.

        A check that can't be cancelled, as one in a thread, is failed after its second, and delays nobody but
        the probe that runs it.
        """
        while (now := time.monotonic()) >= self._until:
            left = PATIENCE_SECONDS
            if self._began is not None:
                left -= now - self._began
                if left <= 0:
                    return self._so_far(now - self._began)
                if self._results:
                    break  # do not wait for slow checks that another probe is running
            with anyio.move_on_after(left) as patience:
                await self._lock.acquire()
            if patience.cancelled_caught:
                continue
            try:
                if time.monotonic() >= self._until:
                    self._results = await self._run()
                    self._until = time.monotonic() + REUSE_SECONDS
            finally:
                self._began = None
                self._lock.release()
            break
        return self._results

    async def _run(self) -> list[CheckResult]:
        self._began = time.monotonic()
        results = self._partial = dict[str, CheckResult]()
        try:
            statistics = await self._system.sample()
        except SystemNotRunning:
            statistics = None
        async with anyio.create_task_group() as tasks:
            for name in SystemChecks.NAMES:
                if self._levels[name] != "off":
                    self._note(results, name, self._system_checks.run(name, statistics))
            for check in self._checks:
                if self._levels[check.name] != "off":
                    tasks.start_soon(self._call, results, check)
        return self._in_order(results)

    def _so_far(self, seconds: float) -> list[CheckResult]:
        """Return the results of checks if one of them takes longer than a second."""
        results = dict(self._partial)
        state = self._system.state
        if self._levels["system"] != "off":
            self._note(results, "system", (state == "running", state))
        for check in self._checks:
            if check.name not in results and self._levels[check.name] != "off":
                self._note(results, check.name, (False, _TOO_LONG), seconds)
        return self._in_order(results)

    def _in_order(self, results: Mapping[str, CheckResult]) -> list[CheckResult]:
        order = [*SystemChecks.NAMES, *(check.name for check in self._checks)]
        return [results[name] for name in order if name in results]

    def _note(
        self, results: dict[str, CheckResult], name: str, outcome: tuple[bool, str], seconds: float = 0.0
    ) -> None:
        passed, detail = outcome
        results[name] = CheckResult(name, "ok" if passed else self._failed_status(name), detail, seconds)

    async def _call(self, results: dict[str, CheckResult], check: Check) -> None:
        began = time.monotonic()
        status: Status = self._failed_status(check.name)
        detail = _TOO_LONG
        with anyio.move_on_after(CHECK_SECONDS):
            try:
                detail = await check.call() or ""
                status = "ok"
            except Exception as error:  # noqa: BLE001 - any exception means that the check fails
                detail = str(error) or type(error).__name__
        results[check.name] = CheckResult(check.name, status, detail, time.monotonic() - began)

    def _failed_status(self, name: str) -> Status:
        return "fail" if self._levels[name] == "fail" else "warn"


_DEFAULT: WeakKeyDictionary[ActorSystem, Health] = WeakKeyDictionary()


def health_of(system: ActorSystem) -> Health:
    """Return the default checks of a system."""
    health = _DEFAULT.get(system)
    if health is None:
        health = _DEFAULT[system] = Health(system, (), {})
    return health
