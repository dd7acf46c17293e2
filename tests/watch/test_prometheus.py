"""Metrics for Prometheus (watch.md 4)."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from papyra import Actor, ActorStopped, ActorSystem, Settings, Strategy, SupervisionPolicy
from papyra.testing import run_seeded
from papyra_contrib._timings.histogram import BOUNDS_SECONDS, OTHER, Histograms
from papyra_contrib.admin import AdminSocket
from papyra_contrib.admin._views import Views
from papyra_contrib.prometheus import (
    PapyraCollector,
    PapyraTimings,
    PrometheusInstrument,
    _plugin,
    metrics_app,
)

from .._loops import one_loop
from ._asgi import Client


class Order(Actor):
    async def receive(self, message):
        if message == "fail":
            raise ValueError("as asked")
        return message


def exposed(system, **options):
    registry = CollectorRegistry()
    registry.register(PapyraCollector(system, **options))
    return generate_latest(registry).decode()


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, tuple(sorted({"system": "shop", **labels}.items()))]


async def test_the_metrics_of_a_system():
    registry = CollectorRegistry()
    system = ActorSystem(system_id="shop", instruments=[PapyraTimings()], hooks=None)
    registry.register(PapyraCollector(system))
    assert generate_latest(registry) == b""
    async with system:
        order = system.spawn(Order, name="orders", policy=SupervisionPolicy(Strategy.RESTART))
        for n in range(10):
            await order.ask(n)
        with pytest.raises(ValueError, match="as asked"):
            await order.ask("fail")
        await order.ask(1)
        gone = system.spawn(Order)
        await system.stop(gone)
        with pytest.raises(ActorStopped):
            await gone.tell(1)
        text = exposed(system, names=("orders", "nobody"))
    found = samples(text)
    assert value(found, "papyra_actors", actor_type="Order", state="alive") == 1
    assert value(found, "papyra_messages_processed_total", actor_type="Order") == 12
    assert value(found, "papyra_actor_failures_total", actor_type="Order") == 1
    assert value(found, "papyra_actor_restarts_total", actor_type="Order") == 1
    assert value(found, "papyra_actors_spawned_total") == 2
    assert value(found, "papyra_dead_letters_total", reason="refused") == 1
    assert value(found, "papyra_process_duration_seconds_count", actor_type="Order") >= 1
    assert value(found, "papyra_mailbox_wait_seconds_bucket", actor_type="Order", le="+Inf") >= 1
    assert value(found, "papyra_store_healthy", store="memory") == 1
    assert value(found, "papyra_facts_dropped_total", store="memory") == 0
    assert value(found, "papyra_store_errors_total", store="memory", work="write") == 0
    assert value(found, "papyra_actor_mailbox_depth", actor="orders") == 0
    assert re.search(r'papyra_build_info\{loop="(asyncio|trio)",system="shop",version="[\d.]+"\} 1.0', text)
    assert "shop:1" not in text
    assert (
        samples(generate_latest(registry).decode())["papyra_actors_spawned_total", (("system", "shop"),)] == 2
    )


async def test_metrics_app():
    async with ActorSystem(system_id="shop", instruments=[PapyraTimings()]) as system:
        await system.spawn(Order).ask(1)
        client = Client(metrics_app(system), {})
        plain = await client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=")
        assert "papyra_actors{" in plain.body.decode()
        opened = await client.get("/metrics", [("accept", "application/openmetrics-text; version=1.0.0")])
        assert opened.headers["content-type"].startswith("application/openmetrics-text")
        assert len({family.name for family in parse_openmetrics(opened.body.decode())}) > 20
        assert opened.body.count(b"# EOF\n") == 1
        assert (await client.request("HEAD", "/metrics")).body == b""
        assert (await client.post("/metrics")).status == 405


async def test_a_scrape_before_the_start_and_after_the_close():
    system = ActorSystem(system_id="shop")
    systems = {}
    client, late = Client(metrics_app(system), {}), Client(metrics_app(lambda: systems["shop"]), {})
    assert (await client.get("/metrics")).status == (await late.get("/metrics")).status == 503
    async with system:
        systems["shop"] = system
        assert (await client.get("/metrics")).status == (await late.get("/metrics")).status == 200
    assert (await client.get("/metrics")).status == 200  # counters don't fall


async def test_a_named_actor_has_one_series():
    with pytest.raises(TypeError, match=r"names=\('orders',\)"):
        metrics_app(ActorSystem(), names="orders")
    with pytest.raises(TypeError, match=r"names=\('orders',\)"):
        PapyraCollector(ActorSystem(), names="orders")
    async with ActorSystem(system_id="shop") as system:
        await system.spawn(Order, name="orders").ask(1)
        answer = await Client(metrics_app(system, names=["orders", "orders"]), {}).get("/metrics")
        lines = answer.body.decode().splitlines()
        assert lines.count('papyra_actor_mailbox_depth{actor="orders",system="shop"} 0.0') == 1


async def test_a_lone_surrogate_in_a_name_ends_no_scrape():
    async with ActorSystem(system_id="shop\udcff") as system:
        await system.spawn(Order, name="\ud800").ask(1)
        answer = await Client(metrics_app(system, names=["\ud800"]), {}).get("/metrics")
        series = 'papyra_actor_mailbox_depth{actor="\\\\ud800",system="shop\\\\udcff"} 0.0'
        assert series in answer.body.decode().splitlines()
        registry = CollectorRegistry()
        registry.register(PapyraCollector(system, names=["\ud800"]))
        assert series in generate_latest(registry).decode().splitlines()


async def test_metrics_app_with_its_siblings(tmp_path, monkeypatch, caplog, anyio_backend):
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(tmp_path))
    command = [sys.executable, str(Path(__file__).with_name("_application.py")), anyio_backend]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other,  # noqa: ASYNC220 - it starts at once
        socket.socket(socket.AF_UNIX) as mute,
    ):
        try:
            assert other.stdout is not None
            await anyio.to_thread.run_sync(other.stdout.readline)
            mute.bind(str(tmp_path / f"{os.getppid()}-mute.sock"))
            mute.listen()
            (tmp_path / "99999999-dead.sock").touch()
            instruments = [PapyraTimings(), AdminSocket()]
            async with ActorSystem(system_id="shop", instruments=instruments) as system:
                await system.spawn(Order).ask(1)
                while instruments[1].path is None:  # noqa: ASYNC110 - the socket does not say when it is ready
                    await anyio.sleep(0.01)
                client = Client(metrics_app(system, names=["orders"], siblings=True), {})
                for _ in range(2):
                    found = samples((await client.get("/metrics")).body.decode())
        finally:
            other.kill()
    ours, theirs = str(os.getpid()), str(other.pid)
    assert {dict(labels)["pid"] for _, labels in found} == {ours, theirs}
    assert value(found, "papyra_actors", pid=ours, actor_type="Order", state="alive") == 1
    assert value(found, "papyra_actors", pid=theirs, actor_type="Session", state="alive") == 21
    assert value(found, "papyra_actor_mailbox_depth", pid=theirs, actor="orders") >= 0
    left_out = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert left_out == [f"the metrics of {os.getppid()}-mute.sock are left out: no answer within 1 s"]


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"[]\n",
        b'{"papyra_admin": 2}\n',
        b'{"papyra_admin": 1, "ops": []}\n',
        b"",
        b'{"papyra_admin": 1',
    ],
)
async def test_a_sibling_of_another_kind_is_left_out(tmp_path, monkeypatch, caplog, answer):
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / f"{os.getppid()}-odd.sock"

    async def serve(stream):
        async with stream:
            with suppress(anyio.BrokenResourceError):
                await stream.send(answer)

    async with (
        ActorSystem(system_id="shop") as system,
        await anyio.create_unix_listener(path) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        client = Client(metrics_app(system, siblings=True), {})
        found = samples((await client.get("/metrics")).body.decode())
        tasks.cancel_scope.cancel()
    assert {dict(labels)["pid"] for _, labels in found} == {str(os.getpid())}
    assert "odd.sock are left out" in caplog.text


def _replaced(value, path, new):
    """Return a copy of plain data in which the value at ``path`` is ``new``."""
    if not path:
        return new
    copied = dict(value)
    copied[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copied


ODD_ANSWERS = {
    "nested": b"[" * 1_000_000,
    "a list": b"[]",
    "no result": b'{"ok": true}',
    "a number without an end": (("longest_running",), 10**400),
    "infinite": (("named",), [{"name": "x", "mailbox_depth": float("inf"), "processed": 1}]),
    "no facts": (("statistics", "facts"), None),
    "text for a number": (("statistics", "spawned"), "many"),
    "list for a mapping": (("statistics", "workers"), [1]),
    "a count of letters": (("statistics", "dead_letters"), {"x": "y"}),
    "hooks": (("statistics", "hooks"), [3]),
    "kinds": (("statistics", "kinds"), {"x": {}}),
}
HARMLESS_ANSWERS = {
    "number for a text": (("statistics", "system_id"), {"a": 1}),
    "lone surrogate": (("statistics", "system_id"), "\ud800"),
    "name": (("named",), [{"name": "\ud800\n", "mailbox_depth": 1, "processed": 1}]),
    "store": (("statistics", "store"), {"records_written": "x"}),
}


@pytest.mark.parametrize("odd", [*ODD_ANSWERS, *HARMLESS_ANSWERS])
async def test_r07_no_answer_of_a_sibling_ends_the_scrape(tmp_path, monkeypatch, caplog, odd):
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / f"{os.getppid()}-odd.sock"
    answer = {**ODD_ANSWERS, **HARMLESS_ANSWERS}[odd]

    async with ActorSystem(system_id="shop") as system:
        if type(answer) is tuple:
            result = _replaced(await Views(system, actions=False, payloads=False).scrape({}), *answer)
            answer = json.dumps({"ok": True, "result": result}, default=str).encode()
        greeting = json.dumps({"papyra_admin": 1, "pid": 1, "ops": ["scrape"]}).encode()

        async def serve(stream):
            async with stream:
                with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
                    await stream.send(greeting + b"\n")
                    await stream.receive()
                    await stream.send(answer + b"\n")

        async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            client = Client(metrics_app(system, siblings=True), {})
            found = samples((await client.get("/metrics")).body.decode())
            tasks.cancel_scope.cancel()
    pids = {dict(labels)["pid"] for _, labels in found}
    assert pids == ({str(os.getpid())} if odd in ODD_ANSWERS else {str(os.getpid()), "1"})
    assert ("odd.sock are left out" in caplog.text) == (odd in ODD_ANSWERS)


async def test_no_series_is_there_twice_for_two_systems_of_one_id(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("papyra_contrib.prometheus._siblings._told_of_doubles", set())
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(tmp_path))
    admin = AdminSocket()
    async with ActorSystem(system_id="twice") as system, ActorSystem(system_id="twice", instruments=[admin]):
        with anyio.fail_after(60):
            while admin.path is None:
                await anyio.lowlevel.checkpoint()
        client = Client(metrics_app(system, siblings=True), {})
        for _ in range(2):
            lines = (await client.get("/metrics")).body.decode().splitlines()
    series = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
    assert sorted(series) == sorted(set(series))
    assert caplog.text.count("has two systems with the id 'twice'") == 1


async def test_the_plugin_registers_all_systems_of_a_process():
    settings_ = Settings(instruments=("prometheus",))
    async with (
        ActorSystem(system_id="a", settings=settings_) as one,
        ActorSystem(system_id="b", settings=settings_),
    ):
        assert [type(each) for each in one.instruments] == [PrometheusInstrument]
        await one.spawn(Order).ask(1)
        text = generate_latest(REGISTRY).decode()
        assert text.count("# TYPE papyra_actors gauge") == 1
        assert {labels for name, labels in samples(text) if name == "papyra_actors_spawned_total"} == {
            (("system", "a"),),
            (("system", "b"),),
        }
    assert (
        'papyra_messages_processed_total{actor_type="Order",system="a"} 1.0'
        in generate_latest(REGISTRY).decode()
    )


async def test_a_scrape_before_the_start_has_the_other_systems():
    waiting = ActorSystem(system_id="waiting")
    async with ActorSystem(system_id="a", settings=Settings(instruments=("prometheus",))):
        _plugin._ALL.systems["waiting"] = waiting
        text = generate_latest(REGISTRY).decode()
    assert 'system="a"' in text
    assert 'system="waiting"' not in text


async def test_metrics_are_served_over_http_alone():
    async with ActorSystem() as system:
        with pytest.raises(ValueError, match="over HTTP only, not 'websocket'"):
            await metrics_app(system)({"type": "websocket"}, None, None)


def test_multiprocess_mode_is_named_once(monkeypatch, caplog):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "somewhere")
    monkeypatch.setattr("papyra_contrib.prometheus._collector._warned_of_multiprocess", False)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            PapyraCollector(ActorSystem())
    assert caplog.text.count("leaves the metrics of Papyra out") == 1


def test_buckets_and_types_have_bounds():
    assert len(BOUNDS_SECONDS) == 22
    assert (BOUNDS_SECONDS[0], BOUNDS_SECONDS[-1]) == (1e-6, 10.0)
    histograms = Histograms()
    for n in range(150):
        histograms.of(f"Kind{n}").observe(0.003, 2)
    assert len(histograms.all()) == 101
    assert histograms.all()[OTHER].buckets()[-1] == ("+Inf", 100.0)
    assert dict(histograms.all()["Kind0"].buckets())["0.005"] == 2.0
    assert dict(histograms.all()["Kind0"].buckets())["0.0025"] == 0.0


# -- promise 3


@one_loop
async def test_scrape_time():
    """Promise 3: ten times the actors take about ten times as long at most, and the app lets the loop go
    round.

    The row ``scrape`` of the benchmarks has the milliseconds.
    """
    async with ActorSystem(system_id="shop", instruments=[PapyraTimings()]) as system:
        kinds = [type(f"Kind{n}", (Order,), {}) for n in range(20)]
        for n in range(10_000):
            system.spawn(kinds[n % 20])
        for kind in kinds:
            await system.refs_by_type(kind)[0].ask(1)
        registry = CollectorRegistry()
        registry.register(PapyraCollector(system))
        small = min(_cpu_seconds(lambda: generate_latest(registry)) for _ in range(15))
        app, stalls = metrics_app(system), []
        for _ in range(5):
            stalls += [await _longest_stall(app)]
        for n in range(90_000):
            system.spawn(kinds[n % 20])
        large = min(_cpu_seconds(lambda: generate_latest(registry)) for _ in range(7))
    print(f"{small * 1e3:.1f} ms, {large * 1e3:.1f} ms, stall {min(stalls) * 1e3:.2f} ms")
    assert large < 25 * small
    assert min(stalls) < small


async def _longest_stall(app):
    longest = 0.0
    ended = anyio.Event()

    async def watch():
        nonlocal longest
        while not ended.is_set():
            began = time.process_time()
            await anyio.lowlevel.checkpoint()
            longest = max(longest, time.process_time() - began)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        await Client(app, {}).get("/metrics")
        ended.set()
    return longest


def _cpu_seconds(call):
    began = time.process_time()
    call()
    return time.process_time() - began


# -- promise 4


async def check_lives(steps):
    system = ActorSystem(system_id="shop", instruments=[PapyraTimings()])
    await system.start()
    refs, last = [], {}

    def rises():
        now = samples(exposed(system))
        for key, before in last.items():
            if key[0].endswith(("_total", "_count", "_bucket", "_sum")):
                assert now[key] >= before, key
        last.update(now)

    for number, step in enumerate(steps):
        if step == "spawn":
            refs.append(system.spawn(Order, policy=SupervisionPolicy(Strategy.RESTART, max_restarts=1)))
        elif step in ("tell", "fail") and refs:
            try:
                await refs[number % len(refs)].tell(step)
            except ActorStopped:
                refs.pop(number % len(refs))
        elif step == "stop" and refs:
            await system.stop(refs.pop(number % len(refs)))
        elif step == "scrape":
            rises()
    rises()
    await system.aclose()
    rises()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    steps=st.lists(st.sampled_from(["spawn", "tell", "fail", "stop", "scrape"]), max_size=30),
)
def test_monotonic(backend, seed, steps):
    """Promise 4: counters never fall, over stops, restarts and a closed system."""
    run_seeded(seed, check_lives, steps, backend=backend)


# -- promise 5


@pytest.mark.parametrize("rhythm", ["steady", "bursting", "periodic"])
async def test_unbiased(rhythm):
    """Promise 5: the estimated counts are within 10 % after 1,000 samples; a rhythm of the program hides
    nothing.
    """

    class Odd(Order):
        pass

    timings = PapyraTimings(rate=1e9)  # the gap below is that of a rate that is reached
    for pace in timings._paces:
        pace._mean, pace._interval = 8, 0.0
        pace._last = float("inf")
    async with ActorSystem(instruments=[timings]) as system:
        even, odd = system.spawn(Order, mailbox_capacity=None), system.spawn(Odd, mailbox_capacity=None)
        told = {"Order": 0, "Odd": 0}
        for n in range(16_000):
            if rhythm == "steady":
                ref = even if n % 3 else odd
            elif rhythm == "periodic":
                ref = odd if n % 16 == 0 else even
            else:
                ref = odd if n // 100 % 4 == 0 else even
            told["Odd" if ref is odd else "Order"] += 1
            await ref.tell(n)
        await even.ask(0)
        await odd.ask(0)
    for name, count in told.items():
        estimated = timings.durations.all()[name].buckets()[-1][1]
        assert estimated == pytest.approx(count, rel=0.10 if count > 8_000 else 0.25)
    total = sum(each.buckets()[-1][1] for each in timings.durations.all().values())
    assert total == pytest.approx(16_002, rel=0.10)


async def test_the_pace_follows_the_rate():
    timings = PapyraTimings(rate=200)
    async with ActorSystem(instruments=[timings]) as system:
        ref = system.spawn(Order, mailbox_capacity=None)
        for n in range(300_000):
            await ref.tell(n)
        await ref.ask(0)
        mean = timings._paces[0]._mean
        assert mean > 64
        total = timings.durations.all()["Order"].buckets()[-1][1]
        assert total == pytest.approx(300_001, rel=0.02)
        for _ in range(20):
            await anyio.sleep(0.015)
            await ref.tell(0)
            for _ in range(timings._paces[0].passed):
                await ref.tell(0)
        assert timings._paces[0]._mean < mean


# -- promise 6


def _shipped(name):
    command = [sys.executable, "-m", "papyra_contrib.prometheus", name]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not here"
)
def test_promtool(tmp_path):
    """Promise 6: promtool finds nothing in the metrics, and the rules and their tests pass."""

    async def scrape():
        async with ActorSystem(system_id="shop", instruments=[PapyraTimings()]) as system:
            await system.spawn(Order, name="orders").ask(1)
            return exposed(system, names=("orders",))

    (tmp_path / "alerts.yml").write_text(_shipped("alerts"))
    (tmp_path / "alerts_test.yml").write_text(_shipped("alerts-test"))
    for arguments, given_ in [
        (["check", "metrics"], anyio.run(scrape)),
        (["check", "rules", "alerts.yml"], ""),
        (["test", "rules", "alerts_test.yml"], ""),
    ]:
        ran = subprocess.run(
            ["promtool", *arguments],
            cwd=tmp_path,
            input=given_,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
        if arguments[1] == "metrics":
            assert ran.stdout + ran.stderr == ""


def test_grafana_names():
    """Promise 6: each expression of the dashboard and of the alerts names metrics that exist."""

    async def scrape():
        async with ActorSystem(system_id="shop", instruments=[PapyraTimings()], hooks=_hooks()) as system:
            await system.spawn(Order).ask(1)
            await anyio.sleep(0.6)  # the first measurement of the loop's lag is optional: its family is there
            return exposed(system)

    names = {family.name for family in parse(anyio.run(scrape))}
    names |= {f"{name}_total" for name in names} | {f"{name}_bucket" for name in names}
    dashboard = json.loads(_shipped("grafana"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    expressions += [each.get("definition", "") for each in dashboard["templating"]["list"]]
    expressions += re.findall(r"expr: (.*)", _shipped("alerts"))
    used = {name for expression in expressions for name in re.findall(r"papyra_\w+", expression)}
    assert len(used) > 20
    assert used <= names
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == [
        *("Overview", "Types", "Latency", "Supervision", "Record")
    ]
    assert [each["name"] for each in dashboard["templating"]["list"]] == [
        "datasource",
        "system",
        "actor_type",
    ]


def _hooks():
    from papyra import SystemHooks

    return SystemHooks(on_event=lambda event: None)
