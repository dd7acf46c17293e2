"""The instruments of a system: found, started, run and removed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from papyra._runtime.containment.log import LOG
from papyra._runtime.containment.scope_guard import ScopeGuard
from papyra._runtime.delivery.send_countdown import Countdown
from papyra._runtime.observation.attached_instrument import Attached
from papyra.instrument_discovery import load_instruments, loaded_before, make_instruments
from papyra.instruments import Instrument
from papyra.plugins import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from papyra._runtime.runtime import Runtime

__all__ = ["Instruments"]

RUN_END_SECONDS = 1.0
"""How long a close waits for the ``run`` of all instruments, once they are cancelled."""


class Instruments:
    """The instruments of a system, before its start, while it runs and after."""

    def __init__(self, given: Iterable[Instrument]) -> None:
        self._all: list[Attached] = []
        self._rt: Runtime | None = None
        self._loaded = False
        for instrument in given:
            self.add(instrument)

    def add(self, instrument: Instrument) -> None:
        """Add an instrument, and start it if the system runs."""
        if not isinstance(instrument, Instrument):
            raise TypeError(f"an instrument must be a papyra.instruments.Instrument, not {instrument!r}")
        if any(attached.instrument is instrument and attached.active for attached in self._all):
            raise ValueError(f"{instrument!r} is an instrument of this system already")
        attached = Attached(instrument, self._detach)
        self._all.append(attached)
        if self._rt is not None:
            self._begin(attached, self._rt)
            self._restart_countdown(self._rt)

    def remove(self, instrument: Instrument) -> None:
        """Remove an instrument: it sees no more messages, and its ``run`` is cancelled."""
        for attached in self._all:
            if attached.instrument is instrument and attached.active:
                self._detach(attached)
                self._all.remove(attached)
                return
        raise ValueError(f"{instrument!r} is not an instrument of this system")

    async def load(self, names: Iterable[str]) -> None:
        """Add the plugins that the settings name, once. One that can't be used is logged and left out."""
        names = () if self._loaded else tuple(names)
        self._loaded = True
        if not names:
            return
        plugins = loaded_before(names)
        if plugins is None:  # in a thread, because it imports modules of third parties
            plugins = await anyio.to_thread.run_sync(load_instruments, names)
        for name, loaded in plugins.items():
            try:
                for instrument in make_instruments(loaded):
                    self.add(instrument)
            except KeyboardInterrupt:
                raise  # Ctrl-C comes anywhere
            except BaseException as error:  # noqa: BLE001 - a plugin's own code; measuring must not keep the system from starting
                LOG.error("the instrument %r can't be used: %s", name, describe(error))

    def start(self, rt: Runtime) -> None:
        """Start all of them, in the context variables of the system's tasks."""
        self._rt = rt
        rt.instruments = self
        for attached in list(self._all):
            self._begin(attached, rt)
        self._restart_countdown(rt)

    def _begin(self, attached: Attached, rt: Runtime) -> None:
        rt.loop.clean_context.run(attached.call, "started", rt.system)
        if attached.has_run and attached.active:
            attached.scope = anyio.CancelScope()
            attached.ended = anyio.Event()
            rt.loop.spawn(partial(self._run, attached, rt), lambda: f"papyra instrument {attached.name}")

    async def _run(self, attached: Attached, rt: Runtime) -> None:
        assert attached.scope is not None  # noqa: S101 - `_begin` made both
        assert attached.ended is not None  # noqa: S101 - as above
        try:
            with attached.scope, ScopeGuard(rt.loop, "run"):
                await attached.instrument.run(rt.system)
        except anyio.get_cancelled_exc_class() as error:
            cancelling = rt.loop.cancelling()
            if cancelling is None or cancelling():
                raise  # the event loop ends
            attached.count_failure("run", error)  # it awaited something that was cancelled
        except KeyboardInterrupt:
            raise  # Ctrl-C, which comes anywhere
        except BaseException as error:  # noqa: BLE001 - an instrument's error, SystemExit too, must not end the system
            attached.count_failure("run", error)
        finally:
            attached.ended.set()

    def _detach(self, attached: Attached) -> None:
        attached.active = False
        if attached.scope is not None:
            attached.scope.cancel()
        if self._rt is not None:
            self._restart_countdown(self._rt)

    def _restart_countdown(self, rt: Runtime) -> None:
        shown = [attached for attached in self._all if attached.active and attached.wants_sends]
        rt.countdown = Countdown(rt, shown) if shown else None

    async def close(self) -> None:
        """Cancel each ``run``, and wait for them for at most a second."""
        for attached in self._all:
            if attached.scope is not None:
                attached.scope.cancel()
        with anyio.move_on_after(RUN_END_SECONDS, shield=True) as scope:
            for attached in self._all:
                if attached.ended is not None:
                    await attached.ended.wait()
        if scope.cancelled_caught:
            late = [
                attached.name
                for attached in self._all
                if attached.ended is not None and not attached.ended.is_set()
            ]
            LOG.error("the run of %s did not end within %s s", ", ".join(late), RUN_END_SECONDS)

    def active(self) -> tuple[Instrument, ...]:
        """Return the instruments that were not removed."""
        return tuple(attached.instrument for attached in self._all if attached.active)

    def panel(self) -> list[dict[str, Any]]:
        """Return the instruments and their counts, ready for JSON."""
        return [
            {"instrument": attached.name, "failed": attached.failed, "active": attached.active}
            for attached in self._all
        ]
