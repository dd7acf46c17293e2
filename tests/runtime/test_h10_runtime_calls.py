"""H10: the first Ctrl-C ends code that the runtime calls for itself, and code out of which nothing is raised.

As a hook, and a ``__del__``. Such code computes for ever each time that it is called, also while the system
closes.
"""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from .test_h10_ctrl_c import pytestmark as posix_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .signalled import Program

    StartProgram = Callable[[str, str], Program]

pytestmark = posix_signals

PROGRAM = """
    import asyncio
    import logging
    import sys
    import time
    import weakref

    import anyio
    import trio
    from papyra import Actor, ActorStopped, ActorSystem
    from papyra.deadletters import DeadLetterPolicy
    from papyra.hooks import SystemHooks
    from papyra.instruments import Instrument

    backend, what = sys.argv[1:]
    armed = said = False
    ONCE = ("handler", "refuses")  # its lock is held by whichever thread logs; it has to end by itself

    def say(text):
        print(text, flush=True)

    def compute(place):
        global armed, said
        if place == what and armed:
            armed = what not in ONCE
            if not said:
                said = True
                say("ready")
            refusals = 2 * (what == "refuses")
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    refusals -= 1
                    if refusals < 0:
                        raise

    class Hooks(SystemHooks):
        def on_dead_letter(self, letter):
            compute("hook")
            compute("refuses")

        def on_event(self, event):
            compute("event_hook")

    class Measures(Instrument):
        def send(self, target, message, asks):
            compute("send")
            return 1, 1

        def begin(self, target, mark):
            compute("begin")

        def end(self, target, mark, error):
            compute("end")

        def replied(self, target, mark, error):
            compute("replied")

    class Handler(logging.Handler):
        def emit(self, record):
            compute("handler")

    def log_filter(record):
        compute("filter")
        return True

    class Hostile(Exception):
        __hash__ = Exception.__hash__

        def __eq__(self, other):
            compute("__eq__")
            return True

        def __repr__(self):
            compute("__repr__")
            return "hostile"

        def __str__(self):
            compute("__str__")
            return "hostile"

        def __del__(self):
            compute("__del__")

    class Key:
        def __hash__(self):
            compute("__hash__")
            return 1

    class Referent:
        pass

    class Computes(Actor):
        def __init__(self):
            compute("factory")

    class Echo(Actor):
        async def receive(self, message):
            if isinstance(message, Exception):
                raise message
            return message

    class Worker(Actor):
        async def on_stop(self):
            say("on_stop")

        def on_child_failure(self, child_ref, exc):
            compute("on_child_failure")

        async def receive(self, message):
            global armed
            if armed:
                return
            gone = self.context.spawn_child(Echo)
            await self.context.system.stop(gone)
            echo = self.context.spawn_child(Echo)
            armed = True
            if what == "factory":
                self.context.spawn_child(Computes)
            elif what == "__hash__":
                self.context.timers.start_single(Key(), 0.0, call=say)
            elif what == "timer":
                self.context.timers.start_single("key", 0.0, call=lambda: compute("timer"))
            elif what == "predicate":
                await self.context.system.wait_for_event(lambda event: compute("predicate"))
            elif what == "__del__":
                Hostile()
            elif what == "weak_reference":
                referent = Referent()
                reference = weakref.ref(referent, lambda _: compute("weak_reference"))
                del referent
            await echo.ask(1)
            await echo.tell(Hostile())
            for letter in range(2):
                try:
                    await gone.tell(Hostile())
                except ActorStopped:
                    pass

    def time_fn():
        compute("time_fn")
        return time.time()

    def callback(letter):
        compute("callback")

    def redact(message):
        compute("redact")
        return message

    async def ask(worker, answered):
        try:
            await worker.ask("go", timeout=None)
        except (ActorStopped, KeyboardInterrupt):  # an instrument is called in this task, too
            pass
        finally:
            say("answered")
            answered.set()

    async def main():
        logger = logging.getLogger("papyra")
        logger.addHandler(Handler())
        logger.addFilter(log_filter)
        redacted = DeadLetterPolicy(redact=redact) if what == "redact" else DeadLetterPolicy()
        async with ActorSystem(
            persistence="json:./facts.ndjson", shutdown_timeout=600, hooks=Hooks(), on_dead_letter=callback,
            instruments=[Measures()], time_fn=time_fn, dead_letter_policy=redacted
        ) as system:
            worker, answered = system.spawn(Worker), anyio.Event()
            if backend == "asyncio":
                task = asyncio.create_task(ask(worker, answered))
            else:
                trio.lowlevel.spawn_system_task(ask, worker, answered)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await answered.wait()
                say("host ends")

    try:
        anyio.run(main, backend=backend)
    finally:
        armed = False  # else objects that Python deletes at its end would compute for ever
"""

SWEPT = """
    callback event_hook send begin end replied handler filter redact time_fn __repr__ __str__ __hash__
    predicate factory timer on_child_failure weak_reference refuses
"""


@pytest.mark.parametrize(
    "what", ["hook", "__del__", *(pytest.param(each, marks=pytest.mark.sweep) for each in SWEPT.split())]
)
def test_h10_the_first_ends_what_the_runtime_calls(
    start_program: StartProgram, what: str, tmp_path: Path
) -> None:
    program = start_program(PROGRAM, what)
    program.interrupt()
    status, out, errors = program.end()
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert sorted(out) == ["answered", "host ends", "on_stop"]  # nobody waits for ever
    facts = [json.loads(line) for line in (tmp_path / "facts.ndjson").read_text().splitlines()]
    stopped = [fact["payload"] for fact in facts if fact.get("event_type") == "SystemStopped"]
    assert [payload["facts_dropped"] for payload in stopped] == [0]


def test_h10_a_second_ends_what_the_runtime_calls_while_it_closes(start_program: StartProgram) -> None:
    program = start_program(PROGRAM, "refuses")
    program.interrupt()
    program.interrupt()
    assert program.end()[0] == -signal.SIGINT
