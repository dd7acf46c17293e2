"""Instruments: what they are shown, at which cost, and what they may do wrong (watch.md 2.3, promises 1 to
6).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra import (
    Actor,
    ActorStopped,
    ActorSystem,
    AskTimeout,
    Settings,
    Strategy,
    SupervisionPolicy,
    ask_all,
)
from papyra.exceptions import PluginError, SystemNotRunning
from papyra.instrument_discovery import check_instrument
from papyra.instruments import Instrument

ROOT = Path(__file__).resolve().parents[2]


class Echo(Actor):
    async def receive(self, message):
        if isinstance(message, BaseException):
            raise message
        return message


class MarkAll(Instrument):
    """Marks each ``every``-th send with its number, and writes down all it gets."""

    def __init__(self, every=1):
        self.every = every
        self.shown = []
        self.log = []

    def send(self, target, message, asks):
        self.shown.append((target.id, message, asks))
        return len(self.shown), self.every

    def begin(self, target, mark):
        self.log.append(("begin", mark))

    def end(self, target, mark, error):
        self.log.append(("end", mark, type(error).__name__ if error is not None else None))

    def replied(self, target, mark, error):
        self.log.append(("replied", mark, type(error).__name__ if error is not None else None))


# -- promise 2


@pytest.mark.parametrize("every", [1, 2, 7, 499, 500, 501, 1024])
async def test_countdown(every):
    """Promise 2: of N sends every n-th is shown, and the event loop goes round every 500 sends."""
    marks = MarkAll(every)
    async with ActorSystem(instruments=[marks]) as system:
        ref = system.spawn(Echo, mailbox_capacity=None)
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await anyio.lowlevel.checkpoint()
            before = turns
            for n in range(5000):
                await ref.tell(n)
            assert 9 <= turns - before <= 60
            tasks.cancel_scope.cancel()
        assert [message for _, message, _ in marks.shown] == list(range(0, 5000, every))
        for n in range(30):
            await ref.ask(n)
        assert [message for _, message, asks in marks.shown if asks] == list(range(0, 30, every))


async def test_countdown_of_sends_that_do_not_wait():
    """Promise 2: so it is where no send lets the event loop go round."""
    marks = MarkAll(100)
    async with ActorSystem(instruments=[marks]) as system:
        ref = system.spawn(Echo, mailbox_capacity=None)
        for n in range(3000):
            ref.tell_nowait(n)
        assert [message for _, message, _ in marks.shown] == list(range(0, 3000, 100))


@settings(max_examples=30)
@given(
    gaps=st.lists(st.integers(1, 1200), min_size=1, max_size=3),
    sends=st.lists(
        st.tuples(st.sampled_from(["tell", "nowait", "defer", "full", "ask"]), st.integers(1, 400)),
        max_size=12,
    ),
)
@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.sweep)])
def test_countdown_for_any_mix(backend, gaps, sends):
    """Promise 2 for any mix of gaps, proxies, full mailboxes, and several instruments."""

    async def main():
        instruments = [MarkAll(gap) for gap in gaps]
        async with ActorSystem(instruments=instruments) as system:
            wide, narrow = system.spawn(Echo, mailbox_capacity=None), system.spawn(Echo, mailbox_capacity=1)
            counts = {False: 0, True: 0}
            for how, times in sends:
                for _ in range(times if how != "ask" else times // 10):
                    if how == "tell":
                        await wide.tell(None)
                    elif how == "nowait":
                        wide.tell_nowait(None)
                    elif how == "full":
                        await narrow.tell(None)
                    elif how == "defer":
                        await wide.proxy().receive.defer(None)
                    else:
                        await wide.ask(None)
                    counts[how == "ask"] += 1
            for each in instruments:
                for asks, count in counts.items():
                    shown = sum(1 for _, _, asked in each.shown if asked is asks)
                    assert shown == -(-count // each.every)
            await system.stop_all()
            for each in instruments:
                assert sum(1 for entry in each.log if entry[0] == "begin") == len(each.shown)

    anyio.run(main, backend=backend)


async def test_an_instrument_comes_and_goes_while_the_system_runs():
    marks, others = MarkAll(), MarkAll(3)
    async with ActorSystem() as system:
        ref = system.spawn(Echo)
        await ref.ask(0)
        system.add_instrument(marks)
        with pytest.raises(ValueError, match="already"):
            system.add_instrument(marks)
        await ref.ask(1)
        system.add_instrument(others)
        await ref.tell(2)
        await ref.ask(3)
        system.remove_instrument(marks)
        with pytest.raises(ValueError, match="not an instrument"):
            system.remove_instrument(marks)
        await ref.ask(4)
        assert [message for _, message, _ in marks.shown] == [1, 2, 3]
        assert [message for _, message, _ in others.shown] == [
            2,
            3,
            4,
        ]  # a change shows all of them the next send
        assert [each["instrument"].rpartition(".")[2] for each in system.control_panel()["instruments"]] == [
            "MarkAll"
        ]
        with pytest.raises(TypeError, match="must be a papyra"):
            system.add_instrument("prometheus")
    with pytest.raises(SystemNotRunning):
        system.add_instrument(MarkAll())


# -- promise 3


def _pairs(log):
    begun = [entry[1] for entry in log if entry[0] == "begin"]
    ended = [entry[1] for entry in log if entry[0] == "end"]
    assert sorted(begun) == sorted(ended)
    assert len(set(begun)) == len(begun)
    return {entry[1]: entry[2] for entry in log if entry[0] == "end"}


class Sleeper(Actor):
    async def receive(self, message):
        if message == "fail":
            raise ValueError("as asked")
        if message == "stubborn":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)
        await anyio.sleep_forever()


async def test_begin_end():
    """Promise 3: `end` follows `begin` once, also after a failure, restart, cancellation or forced stop."""
    marks = MarkAll()
    async with ActorSystem(instruments=[marks], shutdown_timeout=0.2) as system:
        restarts = system.spawn(Sleeper, policy=SupervisionPolicy(Strategy.RESTART))
        with pytest.raises(ValueError, match="as asked"):
            await restarts.ask("fail")
        forced = system.spawn(Sleeper)
        with pytest.raises(AskTimeout):
            await forced.ask("sleep", timeout=0.01)
        await system.stop(forced, timeout=0.01)
        stubborn = system.spawn(Sleeper)
        await stubborn.tell("stubborn")
        closed = system.spawn(Sleeper)
        await closed.tell("sleep")
        with anyio.move_on_after(0.05):
            await closed.ask("never begun")
        with pytest.raises(ActorStopped):
            await forced.ask("gone")
    ends = _pairs(marks.log)
    cancelled = "CancelledError" if "CancelledError" in ends.values() else "Cancelled"
    assert ends == {1: "ValueError", 2: cancelled, 3: cancelled, 4: cancelled}
    replies = [entry[1:] for entry in marks.log if entry[0] == "replied"]
    assert replies == [(1, "ValueError"), (2, "AskTimeout"), (5, cancelled), (6, "ActorStopped")]


async def test_asks_at_once_are_sends_like_others():
    marks, some = MarkAll(), MarkAll(every=3)
    async with ActorSystem(instruments=[some]) as system:
        await ask_all(*(system.spawn(Echo).request(number) for number in range(8)))
    assert [message for _, message, _ in some.shown] == [0, 3, 6]
    async with ActorSystem(instruments=[marks]) as system:
        echo, stopped = system.spawn(Echo), system.spawn(Echo)
        await system.stop(stopped)
        requests = [echo.request(1), stopped.request(2), echo.request(LookupError()), echo.request(4)]
        await ask_all(*requests, return_exceptions=True)
        with pytest.raises(ActorStopped):
            await ask_all(stopped.request(5))
    assert [message for _, message, _ in marks.shown] == [1, 2, requests[2]._message, 4, 5]
    assert {asks for _, _, asks in marks.shown} == {True}
    replies = [entry[1:] for entry in marks.log if entry[0] == "replied"]
    assert replies == [
        (1, None),
        (2, "ActorStopped"),
        (3, "LookupError"),
        (4, "ActorStopped"),
        (5, "ActorStopped"),
    ]


class Slow(Echo):
    def __init__(self, gate):
        self.gate = gate

    async def receive(self, message):
        await self.gate.wait()
        return message


async def test_a_marked_ask_whose_asker_has_gone_is_not_begun():
    marks = MarkAll()
    async with ActorSystem(instruments=[marks]) as system:
        gate = anyio.Event()
        slow = system.spawn(Slow, gate)
        await slow.tell("wait")
        with pytest.raises(AskTimeout):
            await slow.ask("gone", timeout=0.01)
        gate.set()
        assert await slow.ask("now") == "now"
        assert system.control_panel()["expired_asks"] == 1
    assert [entry[1] for entry in marks.log if entry[0] == "begin"] == [1, 3]


# -- promise 4


MARK_ALL = """
from papyra.instruments import Instrument


class Made(Instrument):
    def send(self, target, message, asks):
        return target.id, 1

    def begin(self, target, mark):
        assert target.id == mark

    def end(self, target, mark, error):
        assert target.id == mark

    def replied(self, target, mark, error):
        assert target.id == mark
"""


@pytest.mark.sweep
def test_the_message_tests_pass_with_every_send_marked(tmp_path, site):
    """Promise 4: a marked message is delivered, refused, buried and counted as a plain one."""
    site("mark_all", MARK_ALL)
    (tmp_path / "mark_all-1.0.dist-info" / "entry_points.txt").write_text(
        "[papyra.instruments]\nmark-all = mark_all_made:Made\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PAPYRA_INSTRUMENTS": "mark-all"}
    env.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "2"]
    command += [
        f"tests/runtime/test_{name}.py"
        for name in (
            *(
                "messages",
                "bad_input",
                "proxy",
                "g03_asks",
                "g04_left_over",
                "deadlock",
                "dead_letters",
                "faults",
            ),
            *("g07_one_at_a_time", "g09_stop", "cancellation", "watching", "g14_decisions", "g15_restarts"),
            *("p30_messages", "p43_replies_machine"),
        )
    ]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert " passed" in ran.stdout


class Odd:
    """A message that raises where somebody asks for its class."""

    @property
    def __class__(self):
        raise SystemExit("from a user's value")


async def test_a_marked_message_is_never_evaluated():
    handled = []

    class Keeping(Actor):
        async def receive(self, message):
            handled.append(message)

    marks = MarkAll()
    async with ActorSystem(instruments=[marks]) as system:
        ref = system.spawn(Keeping)
        await ref.tell(Odd())
        await ref.ask(Odd())
    assert [type(message) for message in handled] == [Odd, Odd]
    assert len(marks.shown) == 2


# -- promise 5


class Broken(Instrument):
    def __init__(self, where, error):
        self.where, self.error = where, error

    def _may_raise(self, method):
        if method == self.where:
            raise self.error

    def started(self, system):
        self._may_raise("started")

    def send(self, target, message, asks):
        self._may_raise("send")
        return ("mark", 1) if self.where != "nonsense" else None

    def begin(self, target, mark):
        self._may_raise("begin")

    def end(self, target, mark, error):
        self._may_raise("end")

    def replied(self, target, mark, error):
        self._may_raise("replied")

    async def run(self, system):
        await anyio.lowlevel.checkpoint()
        self._may_raise("run")


class Gap(Instrument):
    def __init__(self, answer):
        self.answer = answer

    def send(self, target, message, asks):
        return self.answer


@pytest.mark.parametrize(
    ("gap", "failed"),
    [
        *((gap, 10) for gap in (None, "x", 2.5, float("inf"), float("nan"))),
        *((gap, 0) for gap in (True, 0, -5, 10**30)),
    ],
)
@pytest.mark.parametrize("mark", [None, "mark"])
async def test_a_gap_that_is_not_a_number_of_sends_is_the_instruments_failure(mark, gap, failed):
    """Promise 5 covers the answer of ``send``, too; an odd number of sends is a gap."""
    async with ActorSystem(instruments=[Gap((mark, gap))]) as system:
        ref = system.spawn(Echo)
        for number in range(600):
            await ref.tell(number)
        assert [await ref.ask(n) for n in range(15)] == list(range(15))
        assert system.control_panel()["instruments"][0]["failed"] == failed


@pytest.mark.parametrize(
    "error", [ValueError("broken"), SystemExit(3), BaseExceptionGroup("two", [SystemExit(1)])]
)
@pytest.mark.parametrize("where", ["started", "send", "begin", "end", "replied", "run", "nonsense"])
async def test_broken_instruments(where, error, caplog):
    """Promise 5: logged once, counted, removed after 10 errors; nobody is taken along."""
    broken, marks = Broken(where, error), MarkAll()
    with caplog.at_level(logging.ERROR, "papyra"):
        async with ActorSystem(instruments=[broken, marks]) as system:
            ref = system.spawn(Echo)
            assert [await ref.ask(n) for n in range(15)] == list(range(15))
            await anyio.wait_all_tasks_blocked()
            mine, theirs = system.control_panel()["instruments"]
            assert theirs["failed"] == 0
            assert theirs["active"]
            often = where not in ("started", "run")
            assert mine["failed"] == (10 if often else 1)
            assert mine["active"] is not often
            assert len(marks.shown) == 15
    told = [record.getMessage() for record in caplog.records]
    assert sum(f"raised in {'send' if where == 'nonsense' else where}" in text for text in told) == 1
    assert sum("is removed" in text for text in told) == often


class Endless(Instrument):
    def __init__(self, shielded=False):
        self.shielded = shielded
        self.began = anyio.Event()
        self.ended = anyio.Event()

    async def run(self, system):
        self.began.set()
        try:
            with anyio.CancelScope(shield=self.shielded):
                await anyio.sleep_forever() if not self.shielded else await anyio.sleep(1.5)
        finally:
            self.ended.set()


async def test_a_run_lives_as_long_as_its_system():
    endless, removed = Endless(), Endless()
    async with ActorSystem(instruments=[endless, removed]) as system:
        with anyio.fail_after(5):
            await endless.began.wait()
            await removed.began.wait()
        system.remove_instrument(removed)
        await anyio.wait_all_tasks_blocked()
        assert removed.ended.is_set()
        assert not endless.ended.is_set()
        assert system.control_panel()["instruments"][0]["failed"] == 0
    assert endless.ended.is_set()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_that_ends_with_its_loop_has_not_failed(backend):
    async def main():
        endless = Endless()
        system = ActorSystem(instruments=[endless])
        await system.start()
        await endless.began.wait()
        return system, endless

    system, endless = anyio.run(main, backend=backend)
    assert endless.ended.is_set()
    assert [attached.failed for attached in system._instruments._all] == [0]
    anyio.run(system.aclose, backend=backend)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_run_that_awaits_what_was_cancelled_has_failed(anyio_backend, caplog):
    class Awaits(Instrument):
        async def run(self, system):
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    async with ActorSystem(instruments=[Awaits()]) as system:
        await anyio.wait_all_tasks_blocked()
        assert system.control_panel()["instruments"][0]["failed"] == 1
        assert await system.spawn(Echo).ask(1) == 1
    assert "raised in run; the system goes on" in caplog.text


@pytest.mark.parametrize("where", ["begin", "run"])
async def test_ctrl_c_in_an_instrument_ends_the_system(where):
    async def host():
        async with ActorSystem(instruments=[Broken(where, KeyboardInterrupt())]) as system:
            await system.spawn(Echo).tell(1)
            await anyio.sleep_forever()

    with anyio.fail_after(60), pytest.raises(KeyboardInterrupt):
        await host()


async def test_a_marked_send_from_another_thread_is_refused_as_any_other():
    marks = MarkAll()
    async with ActorSystem(instruments=[marks]) as system:
        ref = system.spawn(Echo)

        def tell():
            with pytest.raises(RuntimeError, match="in this thread"):
                ref.tell(1).__await__().send(None)

        await anyio.to_thread.run_sync(tell)
        assert await ref.ask(2) == 2
    assert [message for _, message, _ in marks.shown] == [2]


async def test_the_send_of_the_base_class_marks_nothing_and_asks_for_no_more():
    class Looks(Instrument):
        seen = 0

        def send(self, target, message, asks):
            self.seen += 1
            return super().send(target, message, asks)

    looks = Looks()
    async with ActorSystem(instruments=[looks]) as system:
        ref = system.spawn(Echo)
        for number in range(50):
            await ref.tell(number)
        assert await ref.ask(1) == 1
    assert looks.seen <= 2  # once for tells and once for asks


async def test_a_run_that_ignores_its_cancellation_holds_a_close_for_a_second_at_most(caplog):
    endless = Endless(shielded=True)
    system = ActorSystem(instruments=[endless])
    await system.start()
    await endless.began.wait()
    before = anyio.current_time()
    await system.aclose()
    assert anyio.current_time() - before < 10
    assert "did not end" in caplog.text
    with anyio.fail_after(10):
        await endless.ended.wait()


# -- promise 6

REQUEST = contextvars.ContextVar("request", default="none")


class Cleaner(Instrument):
    def started(self, system):
        assert system.list_actors() == []
        REQUEST.set("none")


class Reader(Actor):
    async def on_start(self):
        self.at_start = REQUEST.get()

    async def receive(self, message):
        return self.at_start, REQUEST.get()


async def test_clean_context():
    """Promise 6: a variable that an instrument clears in `started` is seen by no actor."""
    REQUEST.set("the request that started the system")
    async with ActorSystem() as plain, ActorSystem(instruments=[Cleaner()]) as cleaned:
        assert await plain.spawn(Reader).ask(0) == ("the request that started the system",) * 2
        assert [await cleaned.spawn(Reader).ask(0) for _ in range(3)] == [("none", "none")] * 3
    assert REQUEST.get() == "the request that started the system"


# -- plugins

PLUGIN = """
from papyra.instruments import Instrument

seen = []

class Made(Instrument):
    def started(self, system):
        seen.append(system.system_id)
"""


async def test_a_plugin_is_used_where_a_setting_names_it(site, caplog):
    site("counter", PLUGIN)
    site("odd", "Made = 7")
    site("broken", "raise SystemExit(1)")
    async with ActorSystem(system_id="a") as system:
        assert system.control_panel()["instruments"] == []
    names = ("odd", "counter", "broken", "countr")
    async with ActorSystem(system_id="b", settings=Settings(instruments=names)) as system:
        assert [each["instrument"] for each in system.control_panel()["instruments"]] == ["counter_made.Made"]
    import counter_made

    assert counter_made.seen == ["b"]
    assert "the instrument 'odd' can't be used: PluginError: it is int, not a papyra" in caplog.text
    assert "the instrument 'broken' is left out: the plugin 'broken' of broken 1.0 is broken" in caplog.text
    assert "no instrument 'countr' is installed" in caplog.text


async def test_ctrl_c_as_a_plugin_is_made_comes_out_of_the_start(site):
    site("interrupted", "def Made(): raise KeyboardInterrupt")
    system = ActorSystem(settings=Settings(instruments=("interrupted",)))
    with pytest.raises(KeyboardInterrupt):
        await system.start()
    assert system.list_actors() == []
    await system.aclose()


def test_what_a_plugin_measures_is_seen_without_making_it():
    assert sorted(check_instrument(MarkAll)) == ["begin", "end", "replied", "send"]
    assert list(check_instrument(lambda: MarkAll())) == []
    for no_instrument in (7, Echo):
        with pytest.raises(PluginError, match="it is not an instrument"):
            check_instrument(no_instrument)


async def test_h02_a_plugin_that_exits_when_it_is_made_or_read_is_left_out(site, caplog):
    site("exits", "def Made(): raise SystemExit(1)")
    site("odd", "class Odd:\n    def __getattr__(self, name): raise SystemExit(1)\nMade = Odd()")
    async with ActorSystem(settings=Settings(instruments=("exits", "odd"))) as system:
        assert system.control_panel()["instruments"] == []
    assert "the instrument 'exits' can't be used: SystemExit: 1" in caplog.text
    assert "the instrument 'odd' is left out: the plugin 'odd' of odd 1.0 is broken" in caplog.text
