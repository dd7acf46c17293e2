"""Hooks of the user and of plugins: each is called, none can harm."""

from __future__ import annotations

import asyncio
import importlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

import papyra
from papyra import (
    Actor,
    ActorRef,
    ActorStopped,
    ActorSystem,
    DeadLetter,
    FailureInfo,
    Strategy,
    SupervisionPolicy,
    SupervisorDecision,
    SystemHooks,
)
from papyra import events as ev
from papyra.hook_discovery import check_hooks
from papyra.hooks import HOOK_NAMES
from papyra.persistence import InMemoryPersistence
from papyra.persistence.models import (
    PersistedRecord,
    PersistenceAnomaly,
    PersistenceAnomalyType,
    PersistenceRecoveryConfig,
    PersistenceRecoveryReport,
    PersistenceScanReport,
)
from papyra.persistence.startup import PersistenceStartupMode
from papyra.plugins import PluginStatus, all_plugins, inspect_plugin

from .support import Echo, running


@pytest.fixture(autouse=True)
def _no_hook_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine one may take a tenth of a second that does nothing.
    monkeypatch.setattr("papyra._runtime.hook_calls.SLOW_SECONDS", math.inf)


class Damaged(InMemoryPersistence):
    """Is damaged until it is recovered; takes no records."""

    damaged = True

    async def scan(self) -> PersistenceScanReport:
        anomaly = PersistenceAnomaly(PersistenceAnomalyType.CORRUPT_LINE, "file", "detail")
        return PersistenceScanReport("damaged", (anomaly,) if self.damaged else ())

    async def recover(self, config: PersistenceRecoveryConfig | None = None) -> PersistenceRecoveryReport:
        report = PersistenceRecoveryReport("damaged", await self.scan())
        self.damaged = False
        return report

    async def record_batch(self, records: Sequence[PersistedRecord]) -> None:
        raise OSError("full")


async def live(system: ActorSystem) -> ActorRef:
    """Have each hook called at least once."""
    ref = system.spawn(Echo)
    await ref.tell("boom")
    await system.wait_for_event(ev.ActorStopped)
    with pytest.raises(ActorStopped):
        await ref.tell("late")
    system.audit()
    await system.flush()
    return ref


def recorder(told: list[tuple[str, Any]], name: str, how: str) -> Callable[[Any], Any]:
    def plain(value: Any) -> None:
        told.append((name, value))
        if how == "raising":
            raise ValueError(name)

    async def later(value: Any) -> None:
        await anyio.lowlevel.checkpoint()
        plain(value)

    async def raising_later(value: Any) -> None:
        plain(value)
        raise ValueError(name)

    return {"plain": plain, "raising": plain, "async": later, "async raising": raising_later}[how]


def told_of(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """Return whom the log names in lines with these words; each has a traceback if something was raised."""
    lines = [record for record in caplog.records if words in record.getMessage()]
    assert all(bool(record.exc_info) == (words == "raised in") for record in lines)
    return [str(record.args[0]) for record in lines if isinstance(record.args, tuple)]


def counts(system: ActorSystem) -> dict[str, tuple[int, ...]]:
    """Return what the control panel counts of each observer: failed, slow, dropped, pending."""
    panel = system.control_panel()["hooks"]
    return {one["observer"]: (one["failed"], one["slow"], one["dropped"], one["pending"]) for one in panel}


@pytest.mark.parametrize("how", ["plain", "async", "raising", "async raising"])
async def test_each_hook_is_called_and_none_can_harm(how: str, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, Any]] = []
    hooks = SystemHooks(**{name: recorder(told, name, how) for name in HOOK_NAMES})
    async with running(
        hooks=hooks, persistence=Damaged(), persistence_startup=PersistenceStartupMode.RECOVER
    ) as system:
        await live(system)
        assert await system.spawn(Echo).ask("alive") == "alive"
    assert {name for name, _ in told} == set(HOOK_NAMES)
    events = [type(value).__name__ for name, value in told if name == "on_event"]
    assert events == ["ActorStarted", "ActorCrashed", "ActorStopped", "ActorStarted", "ActorStopped"]
    values = dict(told)
    assert values["on_dead_letter"].message == "late"
    assert values["on_audit"].dead_letters_count == 1
    assert values["on_persistence_scan"].has_anomalies
    assert values["on_persistence_recovery"].scan.has_anomalies
    assert str(values["on_persistence_error"]) == "full"
    failed = len(told) if "raising" in how else 0
    assert told_of(caplog, "raised in") == ["ActorSystem(hooks=...)"] * bool(failed)
    assert counts(system) == {"ActorSystem(hooks=...)": (failed, 0, 0, 0)}


@pytest.mark.parametrize("how", ["plain", "async"])
async def test_g13_a_failed_start_still_reports_the_scan(how: str) -> None:
    told: list[tuple[str, Any]] = []
    hooks = SystemHooks(on_persistence_scan=recorder(told, "scan", how))
    system = ActorSystem(
        hooks=hooks, persistence=Damaged(), persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY
    )
    with anyio.fail_after(5):
        with pytest.raises(RuntimeError, match="Persistence anomalies detected"):
            await system.start()
        await anyio.wait_all_tasks_blocked()
        await system.aclose()
    assert [name for name, _ in told] == ["scan"]


async def test_async_hooks_run_in_order_in_a_task_of_their_own_and_before_aclose_returns() -> None:
    order: list[int] = []
    gate = anyio.Event()

    async def slow(letter: DeadLetter) -> None:
        await gate.wait()
        for _ in range(letter.message % 3):  # type: ignore[operator]  # an int, here
            await anyio.lowlevel.checkpoint()
        order.append(letter.message)  # type: ignore[arg-type]  # as above

    async with running(on_dead_letter=slow) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        for number in range(10):
            with pytest.raises(ActorStopped):
                await ref.tell(number)
        assert await system.spawn(Echo).ask(1) == 1  # nobody waits for a hook
        assert order == []
        gate.set()
    assert order == list(range(10))


async def test_a_hanging_hook_does_not_hang_aclose_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hang(_event: object) -> None:
        await anyio.sleep_forever()

    began = anyio.current_time()
    async with running(hooks=SystemHooks(on_event=hang), shutdown_timeout=0.1) as system:
        assert await system.spawn(Echo).ask(1) == 1
        assert counts(system) == {"ActorSystem(hooks=...)": (0, 0, 0, 1)}
    assert anyio.current_time() - began < 8  # it has one second
    assert told_of(caplog, "async calls in time for the close") == ["ActorSystem(hooks=...)"]
    assert counts(system) == {"ActorSystem(hooks=...)": (0, 0, 2, 0)}


async def test_a_flood_of_async_hooks_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("papyra._runtime.hook_calls.MAX_PENDING_CALLS", 5)
    gate, called = anyio.Event(), 0

    async def slow(_report: object) -> None:
        nonlocal called
        called += 1
        await gate.wait()

    async with running(hooks=SystemHooks(on_audit=slow)) as system:
        for _ in range(20):
            system.audit()
        assert counts(system) == {"ActorSystem(hooks=...)": (0, 0, 15, 5)}
        gate.set()
    assert called == 5
    assert counts(system) == {"ActorSystem(hooks=...)": (0, 0, 15, 0)}
    assert told_of(caplog, "too slow") == ["ActorSystem(hooks=...)"]


async def test_a_call_that_hangs_is_named_when_others_wait_behind_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("papyra._runtime.hook_calls.LATE_SECONDS", -1.0)
    entered, gate = anyio.Event(), anyio.Event()

    async def slow(_report: object) -> None:
        entered.set()
        await gate.wait()

    async with running(hooks=SystemHooks(on_audit=slow)) as system:
        system.audit()
        await entered.wait()
        for _ in range(3):
            system.audit()
        gate.set()
    assert told_of(caplog, "has not ended an async call") == ["ActorSystem(hooks=...)"]
    assert counts(system) == {"ActorSystem(hooks=...)": (0, 0, 0, 0)}


async def test_a_plain_hook_that_keeps_the_event_loop_is_named_once_with_the_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("papyra._runtime.hook_calls.SLOW_SECONDS", 0.01)

    class Mine(SystemHooks):
        def on_audit(self, _report: object) -> None:
            time.sleep(0.011)  # blocks on purpose

        def on_dead_letter(self, letter: DeadLetter) -> None:
            self.on_audit(letter)
            raise ValueError("slow and wrong")

    async with running(hooks=Mine()) as system:
        for _ in range(3):
            system.audit()
        ref = system.spawn(Echo)
        await system.stop(ref)
        with pytest.raises(ActorStopped):
            await ref.tell("late")
    assert told_of(caplog, "kept the event loop for ") == ["ActorSystem(hooks=...)"]
    assert "in on_audit; make it async or quick" in caplog.text
    assert counts(system) == {"ActorSystem(hooks=...)": (1, 4, 0, 0)}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_hook_that_awaits_what_was_cancelled_is_a_failure_and_the_others_still_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[object] = []

    async def spurious_cancellation(report: object) -> None:
        told.append(report)
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with running(hooks=SystemHooks(on_audit=spurious_cancellation)) as system:
        reports = [system.audit() for _ in range(3)]
    assert told == reports
    assert counts(system) == {"ActorSystem(hooks=...)": (3, 0, 0, 0)}
    assert told_of(caplog, "raised in") == ["ActorSystem(hooks=...)"]


class Sums(Actor):
    """Fails now and then, and answers with all that it got."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def receive(self, message: int) -> list[int]:
        self.seen.append(message)
        if message % 5 == 4:
            raise ValueError(message)
        await anyio.lowlevel.checkpoint()
        return list(self.seen)


async def at_work(**options: Any) -> tuple[list[object], list[str]]:
    """Return what two actors answer to a mix of messages, and the events, in their order."""
    answers: list[object] = []
    async with running(**options) as system:
        refs = [system.spawn(Sums, name=name) for name in ("one", "two")]
        for number in range(10):
            for ref in refs:
                try:
                    answers.append(await ref.ask(number))
                except ValueError as error:
                    answers.append(str(error))
    return answers, [f"{event.address['actor_id']} {type(event).__name__}" for event in system.events()]


@pytest.mark.parametrize("harm", ["raises", "raises later", "hangs", "blocks"])
async def test_no_observer_changes_what_actors_answer_or_the_order_of_events(harm: str) -> None:
    async def hang(_event: object) -> None:
        await anyio.sleep_forever()

    hook = {
        "raises": recorder([], "on_event", "raising"),
        "raises later": recorder([], "on_event", "async raising"),
        "hangs": hang,
        "blocks": lambda _: time.sleep(0.001),
    }[harm]
    hooks = SystemHooks(on_event=hook, on_failure=hook)
    expected = await at_work()
    assert len(expected[0]) == 20
    assert await at_work(hooks=hooks, shutdown_timeout=0.0) == expected


async def test_on_dead_letter_of_the_system_and_of_the_hooks_are_both_called() -> None:
    told: list[str] = []

    class Mine(SystemHooks):
        def on_dead_letter(self, dead_letter: DeadLetter) -> None:
            told.append(f"hooks {dead_letter.message} {dead_letter.expects_reply}")

    async with running(
        on_dead_letter=lambda letter: told.append(f"system {letter.message}"), hooks=Mine()
    ) as system:
        ref = system.spawn(Echo)
        await system.stop(ref)
        with pytest.raises(ActorStopped):
            await ref.ask("x")
    assert told == ["hooks x True", "system x"]


async def test_a_subclass_may_define_hooks_and_be_given_others() -> None:
    told: list[str] = []

    class Mine(SystemHooks):
        async def on_event(self, event: ev.ActorEvent) -> None:
            told.append(type(event).__name__)

        def on_audit(self, report: object) -> None:
            told.append("overridden")

    async with running(hooks=Mine(on_audit=lambda _: told.append("audit"))) as system:
        await system.spawn(Echo).ask(1)
        system.audit()
    assert told == ["audit", "ActorStarted", "ActorStopped"] or told == [
        "ActorStarted",
        "audit",
        "ActorStopped",
    ]


def test_a_hook_that_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="on_audit must be a function"):
        SystemHooks(on_audit=1)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError):
        SystemHooks(on_nothing=print)  # type: ignore[call-arg]  # on purpose


@pytest.mark.parametrize(
    ("decision", "strategy"),
    [
        (None, Strategy.STOP),
        (None, Strategy.RESTART),
        (SupervisorDecision.RESUME, Strategy.STOP),
        (SupervisorDecision.IGNORE, Strategy.RESTART),
    ],
)
async def test_failure_info_tells_who_what_and_why(
    decision: SupervisorDecision | None, strategy: Strategy
) -> None:
    class Top(Actor):
        async def receive(self, _message: object) -> ActorRef:
            return self.context.spawn_child(Echo, policy=SupervisionPolicy(strategy))

        async def on_child_failure(self, child_ref: ActorRef, exc: Exception) -> SupervisorDecision | None:
            seen.append(exc)
            return decision

    seen: list[Exception] = []
    told: list[FailureInfo] = []
    async with running(hooks=SystemHooks(on_failure=told.append)) as system:
        ref = await system.spawn(Top).ask(0)
        with pytest.raises(RuntimeError) as caught:
            await ref.ask("boom")
        assert await _settled(told)
        assert told == [FailureInfo(ref.address, caught.value, strategy, decision)]
        assert seen == [caught.value]


async def _settled(told: list[FailureInfo]) -> bool:
    while not told:
        await anyio.lowlevel.checkpoint()
    return True


# -- plugins


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install throw-away distributions with hook plugins."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PAPYRA_PLUGINS", raising=False)
    made: list[str] = []

    def add(name: str, source: str, *, points: str | None = None, body: bool = True) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[papyra.hooks]\n{points or f'{name} = {name}_hooks'}\n")
        if body:
            (tmp_path / f"{name}_hooks.py").write_text(dedent(source))
            made.append(f"{name}_hooks")
        importlib.invalidate_caches()

    yield add
    for module in made:
        sys.modules.pop(module, None)


PLUGIN = """
from papyra.hookspecs import hookimpl

told = []

@hookimpl
def on_event(event):
    told.append(type(event).__name__)

@hookimpl
async def on_audit(report):
    told.append("audit")

@hookimpl
def on_persistence_scan(report):
    told.append("scan")
"""


def told_by(name: str) -> list[str]:
    return list(sys.modules[f"{name}_hooks"].told)


async def test_hook_plugins_are_called_once_each(site: Callable[..., None]) -> None:
    for name in ("alpha", "beta", "gamma"):
        site(name, PLUGIN)
    async with running(persistence_startup=PersistenceStartupMode.SCAN_ONLY) as system:
        await system.spawn(Echo).ask(1)
        system.audit()
    for name in ("alpha", "beta", "gamma"):
        told = told_by(name)
        assert sorted(told) == ["ActorStarted", "ActorStopped", "audit", "scan"]
        assert told[0] == "scan"


async def test_h02_a_hook_plugin_that_exits_when_it_is_read_is_left_out(
    site: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    site("odd", "def __dir__(): raise SystemExit(1)\n")
    async with running() as system:
        assert await system.spawn(Echo).ask(1) == 1
    assert "SystemExit" in caplog.text


async def test_h02_the_loop_runs_on_while_a_hook_plugin_is_imported(site: Callable[..., None]) -> None:
    """The import ends only when the loop has run."""
    site("slow", "import papyra\npapyra.importing.set()\nassert papyra.loop_ran.wait(30)\n" + PLUGIN)
    importing, loop_ran = threading.Event(), threading.Event()
    papyra.importing, papyra.loop_ran = importing, loop_ran  # type: ignore[attr-defined]  # for the plugin

    async def run_the_loop() -> None:
        while not importing.is_set():  # noqa: ASYNC110 - a thread sets it
            await anyio.sleep(0.001)
        loop_ran.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(run_the_loop)
            async with running() as system:
                system.audit()
    finally:
        del papyra.importing, papyra.loop_ran  # type: ignore[attr-defined]  # as above
    assert told_by("slow") == ["audit"]


async def test_the_users_hooks_are_called_beside_the_plugins(site: Callable[..., None]) -> None:
    site("alpha", PLUGIN)
    mine: list[str] = []
    hooks = SystemHooks(on_event=lambda event: mine.append(type(event).__name__))
    async with running(hooks=hooks) as system:
        await system.spawn(Echo).ask(1)
    assert mine == ["ActorStarted", "ActorStopped"]
    assert [line for line in told_by("alpha") if line.startswith("Actor")] == mine


async def test_broken_hook_plugins_are_reported_and_break_nothing(
    site: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    hookimpl = "from papyra.hookspecs import hookimpl\n"
    site("alpha", PLUGIN)
    site("exits", "raise SystemExit(3)")
    site("gone", "", body=False)
    site("old", "papyra_api = '0.9'\n" + PLUGIN)
    site("signature", f"{hookimpl}@hookimpl\ndef on_event(event, more): ...")
    site("touchy", "class Touchy:\n    def __getattr__(self, name): raise OSError(name)\nit = Touchy()",
         points="touchy = touchy_hooks:it")  # fmt: skip
    site("raises", f"{hookimpl}@hookimpl\ndef on_event(event): raise ValueError('plugin')")
    site("raises_later", f"{hookimpl}@hookimpl\nasync def on_event(event): raise ValueError('plugin later')")
    site("nothing", "x = 1")
    site("unknown", f"{hookimpl}@hookimpl\ndef on_evnt(event): ...\n" + PLUGIN)
    site("zulu", PLUGIN)
    async with running() as system:
        assert await system.spawn(Echo).ask(1) == 1
    assert told_by("alpha") == told_by("unknown") == told_by("zulu") == ["ActorStarted", "ActorStopped"]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for name, reason in {
        "exits": "SystemExit: 3",
        "gone": "ModuleNotFoundError",
        "old": "plugin API 0.9",
        "signature": "'more'",
        "touchy": "OSError",
        "nothing": "it has no hooks; mark its functions with papyra.hookspecs.hookimpl",
        "unknown": "there is no hook on_evnt; hooks are on_event, on_dead_letter, ",
    }.items():
        assert [reason in line for line in warned if f"plugin '{name}' of {name} 1.0" in line] == [True], name
    raising = ("the hook plugin 'raises' of raises 1.0", "the hook plugin 'raises_later' of raises-later 1.0")
    assert sorted(told_of(caplog, "raised in")) == sorted(raising)
    infos = {found.name: inspect_plugin(found, check_hooks) for found in all_plugins(["papyra.hooks"])}
    assert {name for name, info in infos.items() if info.status is PluginStatus.OK} == {
        "alpha", "raises", "raises_later", "zulu",
    }  # fmt: skip
    assert infos["raises"].capabilities == ("on_event",)
    assert infos["unknown"].reason.startswith("there is no hook on_evnt; hooks are on_event, ")
    assert caplog.text.count("ValueError: plugin later") == caplog.text.count("ValueError: plugin\n") == 1
    assert {name: count[0] for name, count in counts(system).items() if count[0]} == dict.fromkeys(raising, 2)


@pytest.mark.parametrize("way", ["module", "object", "class", "SystemHooks", "SystemHooks class"])
@pytest.mark.parametrize("installed", [True, False])
async def test_what_a_plugin_may_be_may_also_be_given_to_a_system(
    way: str, installed: bool, site: Callable[..., None]
) -> None:
    body = """
    from papyra import SystemHooks
    told = []
    class Marked:
        @hookimpl
        def on_event(self, event): told.append(type(event).__name__)
    class Mine(SystemHooks):
        def on_event(self, event): told.append(type(event).__name__)
    marked, mine = Marked(), Mine()
    """
    plugin = f"from papyra.hookspecs import hookimpl\n{dedent(body)}"
    if way == "module":
        plugin = PLUGIN
    name = {
        "module": "",
        "object": ":marked",
        "class": ":Marked",
        "SystemHooks": ":mine",
        "SystemHooks class": ":Mine",
    }
    site("alpha", plugin, points=f"alpha = alpha_hooks{name[way]}" if installed else "[other]")
    hooks: Any = None
    if not installed:
        hooks = importlib.import_module("alpha_hooks")
        hooks = getattr(hooks, name[way][1:]) if name[way] else hooks
    async with running(hooks=hooks) as system:
        await system.spawn(Echo).ask(1)
    assert told_by("alpha") == ["ActorStarted", "ActorStopped"]
    assert list(counts(system)) == [
        "the hook plugin 'alpha' of alpha 1.0" if installed else "ActorSystem(hooks=...)"
    ]


def test_an_object_without_hooks_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"hooks must be a SystemHooks, or a module or object with hooks.*hookimpl"
    ):
        ActorSystem(hooks=object())  # type: ignore[arg-type]  # on purpose


async def test_papyra_plugins_limits_hook_plugins(
    site: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site("alpha", PLUGIN)
    site("beta", PLUGIN)
    monkeypatch.setenv("PAPYRA_PLUGINS", "beta")
    async with running() as system:
        await system.spawn(Echo).ask(1)
    assert "alpha_hooks" not in sys.modules
    assert told_by("beta") == ["ActorStarted", "ActorStopped"]
    assert "alpha" not in caplog.text


async def test_a_second_start_after_a_failed_one_adds_no_plugin_twice(site: Callable[..., None]) -> None:
    site("alpha", PLUGIN)
    store = Damaged()
    system = ActorSystem(persistence=store, persistence_startup=PersistenceStartupMode.FAIL_ON_ANOMALY)
    with anyio.fail_after(5):
        with pytest.raises(RuntimeError, match="anomalies"):
            await system.start()
        store.damaged = False
        await system.start()
        await system.spawn(Echo).ask(1)
        await system.aclose()
    assert told_by("alpha") == ["scan", "scan", "ActorStarted", "ActorStopped"]


async def test_a_plugin_that_implements_on_event_twice_over_objects_is_kept_apart(
    site: Callable[..., None],
) -> None:
    site(
        "pair",
        """
        from papyra.hookspecs import hookimpl
        told = []
        class One:
            def __init__(self, name):
                self.name = name
            @hookimpl
            async def on_event(self, event):
                told.append(self.name)
        one, two = One("one"), One("two")
        """,
        points="one = pair_hooks:one\ntwo = pair_hooks:two",
    )
    async with running() as system:
        await system.spawn(Echo).ask(1)
    assert sorted(told_by("pair")) == ["one", "one", "two", "two"]


async def test_h20_any_object_with_methods_of_these_names_is_taken_as_hooks():
    seen: list[str] = []

    class Observer:
        """A class of an application, without a base."""

        def on_event(self, event: ev.ActorEvent) -> None:
            seen.append(type(event).__name__)

        async def on_dead_letter(self, letter: object) -> None:
            seen.append("dead letter")

    class Quiet(Actor):
        async def receive(self, message: object) -> None: ...

    async with ActorSystem(hooks=Observer()) as system:
        ref = system.spawn(Quiet)
        await system.wait_for_event(ev.ActorStarted)
        await system.stop(ref)
        with pytest.raises(ActorStopped):
            await ref.tell("late")
    assert seen == ["ActorStarted", "ActorStopped", "dead letter"]
