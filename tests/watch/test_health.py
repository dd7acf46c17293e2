"""Health endpoints (watch.md 3, promises 5 and 6)."""

from __future__ import annotations

import inspect
import threading
import time
import warnings
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest

from papyra import Actor, ActorSystem, Strategy, SupervisionPolicy
from papyra._runtime.facts import dropped_share
from papyra.persistence.models import PersistenceRecoveryConfig, PersistenceRecoveryMode
from papyra.persistence.startup import PersistenceStartupConfig, PersistenceStartupMode
from papyra_contrib.asgi import (
    ASGIPapyra,
    Check,
    PapyraASGIConfig,
    _system_checks,
    healthz,
    livez,
    metrics,
    papyra_lifecycle,
    readyz,
)

from ._asgi import Client, running

REPAIR = PersistenceRecoveryConfig(PersistenceRecoveryMode.REPAIR)


async def nothing(scope, receive, send):
    raise AssertionError("the endpoints come before the application")


def make():
    return ActorSystem(system_id="web", shutdown_timeout=0.1)


class Crashing(Actor):
    async def receive(self, message):
        raise ValueError("as asked")


class Waiting(Actor):
    async def receive(self, message):
        await anyio.sleep_forever()


async def test_probe_cost(monkeypatch):
    """Promise 5: 1,000 probes in a second make one walk; a check that hangs is `failed: 1 s` and delays
    nobody.
    """
    walks, runs = 0, 0
    sample = ActorSystem.sample

    async def counted(self):
        nonlocal walks
        walks += 1
        return await sample(self)

    async def hangs():
        await anyio.sleep_forever()

    async def quick():
        nonlocal runs
        runs += 1
        return "42 rows"

    monkeypatch.setattr(ActorSystem, "sample", counted)
    monkeypatch.setattr("papyra_contrib.asgi._health.REUSE_SECONDS", 60.0)
    p = ASGIPapyra(
        make, PapyraASGIConfig(readyz={"cache": "warn"}), checks=[Check("cache", hangs), Check("rows", quick)]
    )
    async with running(p.wrap(nothing)) as client:
        began = time.monotonic()
        answers = []

        async def probe():
            answers.append(await client.get("/readyz?verbose"))

        async with anyio.create_task_group() as tasks:
            for _ in range(1_000):
                tasks.start_soon(probe)
        assert time.monotonic() - began < 5
        assert (walks, runs) == (1, 1)
        assert {answer.status for answer in answers} == {200}
        text = answers[0].body.decode()
        assert "[!]cache warning: 1 s\n" in text
        assert "[+]rows ok: 42 rows\n" in text


async def test_while_a_slow_check_runs_the_last_result_serves(monkeypatch):
    monkeypatch.setattr("papyra_contrib.asgi._health.REUSE_SECONDS", 0.0)
    slow = False

    async def check():
        if slow:
            await anyio.sleep_forever()

    p = ASGIPapyra(make, checks=[Check("cache", check)])
    async with running(p.wrap(nothing)) as client:
        assert (await client.get("/readyz")).status == 200
        slow = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/readyz")
            await anyio.wait_all_tasks_blocked()
            began = time.monotonic()
            assert (await client.get("/readyz")).status == 200
            assert time.monotonic() - began < 0.9  # the hanging check gives up after 1 s
        assert (await client.get("/readyz")).status == 503


@pytest.mark.parametrize("looked_before", [True, False])
async def test_a_check_that_cannot_be_cancelled_fails_after_its_second(looked_before, monkeypatch):
    """Promise 5: one in a thread goes on, and delays only the probe that runs it."""
    monkeypatch.setattr("papyra_contrib.asgi._health.REUSE_SECONDS", 0.0)
    hangs, ended = not looked_before, threading.Event()

    def connect():
        if hangs:
            ended.wait(20)

    p = ASGIPapyra(make, checks=[Check("database", partial(anyio.to_thread.run_sync, connect))])
    async with running(p.wrap(nothing)) as client:
        try:
            if looked_before:
                assert (await client.get("/readyz")).status == 200
                hangs = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, "/readyz")
                await anyio.wait_all_tasks_blocked()
                if looked_before:
                    assert (await client.get("/readyz")).status == 200  # its second is not over
                with anyio.fail_after(10):
                    while (answer := await client.get("/readyz?verbose")).status == 200:  # noqa: ASYNC110 - nothing tells when it is
                        await anyio.sleep(0.05)
                assert b"[-]database failed: 1 s\n" in answer.body
                assert b"[+]system ok: running\n" in answer.body
                ended.set()
                hangs = False
        finally:
            ended.set()
        assert (await client.get("/readyz")).status == 200


async def test_what_a_check_says_is_harmless_in_a_terminal():
    async def broken():
        raise OSError("no \x1b[31mroute\u202e to \udcff")

    p = ASGIPapyra(make, checks=[Check("gateway", broken)])
    async with running(p.wrap(nothing)) as client:
        said = (await client.get("/readyz")).body.decode().splitlines()[-2]
        assert said == "[-]gateway failed: no \\x1b[31mroute\\u202e to \\udcff"


async def test_formats():
    async def broken():
        raise OSError("no route\nto host")

    p = ASGIPapyra(make, checks=[Check("gateway", broken)])
    async with running(p.wrap(nothing)) as client:
        failing = await client.get("/readyz")
        assert failing.status == 503
        assert failing.body.splitlines()[-2:] == [b"[-]gateway failed: no route to host", b"not ready"]
        assert failing.headers["cache-control"] == "no-store"
        passing = await client.get("/readyz?exclude=gateway")
        assert (passing.status, passing.body) == (200, b"ok\n")
        for as_json in (
            await client.get("/readyz?format=json"),
            await client.get("/readyz", [("accept", "application/json")]),
        ):
            found = as_json.json()
            assert (found["status"], found["system_id"]) == ("fail", "web")
            assert found["checks"][0] == {
                "name": "system",
                "status": "ok",
                "detail": "running",
                "seconds": 0.0,
            }
            assert [each["name"] for each in found["checks"]] == [
                *("system", "store", "mailboxes", "restarts", "stuck", "gateway")
            ]
        head = await client.request("HEAD", "/healthz")
        assert (head.status, head.body, head.headers["content-length"] != "0") == (503, b"", True)
        refused = await client.post("/readyz")
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_what_the_checks_look_at(monkeypatch):
    monkeypatch.setattr("papyra_contrib.asgi._health.REUSE_SECONDS", 0.0)
    monkeypatch.setattr(_system_checks, "STUCK_SECONDS", 0.0)
    levels = {"store": "fail", "mailboxes": "fail", "restarts": "fail", "stuck": "fail"}
    p = ASGIPapyra(make, PapyraASGIConfig(readyz=levels))

    async with running(p.wrap(nothing)) as client:

        async def failing():
            found = (await client.get("/readyz?format=json")).json()
            return [each["name"] for each in found["checks"] if each["status"] == "fail"]

        assert await failing() == []
        share = p.system._fact_writer.dropped_share
        with monkeypatch.context() as patched:
            patched.setattr(type(p.system.persistence), "healthy", False)
            assert await failing() == ["store"]
            assert b"store failed: memory is not healthy" in (await client.get("/readyz?verbose")).body
        share.count(dropped=1)
        assert await failing() == ["store"]
        share._turn(at=time.monotonic() + 2 * dropped_share.WINDOW_SECONDS)
        policy = SupervisionPolicy(Strategy.RESTART, max_restarts=100)
        crashing = p.system.spawn(Crashing, policy=policy)
        for _ in range(_system_checks.RESTARTS_A_MINUTE + 1):
            with pytest.raises(ValueError, match="as asked"):
                await crashing.ask(1)
        assert await failing() == ["restarts"]
        waiting = p.system.spawn(Waiting, mailbox_capacity=10)
        for _ in range(10):
            await waiting.tell(1)
        await anyio.wait_all_tasks_blocked()
        names = [await failing() for _ in range(3)]
        assert "mailboxes" not in names[1]
        assert names[2] == ["mailboxes", "restarts", "stuck"]
        later = time.monotonic() + 61
        monkeypatch.setattr(_system_checks, "time", SimpleNamespace(monotonic=lambda: later))
        names = [await failing() for _ in range(2)]
        assert names[1] == ["mailboxes", "stuck"]  # no restarts in the last minute


async def test_a_system_before_its_start_is_not_ready():
    system = ActorSystem(system_id="web")

    async def app(scope, receive, send):
        await readyz(scope, receive, send, system=system)

    answer = await Client(app, {}).get("/?verbose")
    assert answer.status == 503
    assert b"[-]system failed: not started\n[+]store ok: not started\n" in answer.body


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"persistence_recovery": REPAIR}, 1),
        ({"persistence_startup": PersistenceStartupConfig(PersistenceStartupMode.RECOVER, REPAIR)}, 1),
        (
            {
                "persistence_startup": PersistenceStartupConfig(PersistenceStartupMode.RECOVER),
                "persistence_recovery": REPAIR,
            },
            1,
        ),
        ({"persistence_startup": PersistenceStartupConfig(PersistenceStartupMode.FAIL_ON_ANOMALY)}, 0),
    ],
)
async def test_papyra_lifecycle_checks_the_store_before_the_start(tmp_path, options, kept):
    store = tmp_path / "store.ndjson"
    store.write_text("garbage\n")
    started = []
    with pytest.raises(RuntimeError, match="anomal") if not kept else nullcontext():
        async with papyra_lifecycle(lambda: ActorSystem(persistence=f"json:{store}"), **options) as system:
            started.append(system.state)
    assert started == ["running"] * kept
    assert ("garbage" in store.read_text()) is (not kept)


async def test_papyra_lifecycle_raises_what_the_close_raises():
    class Broken(ActorSystem):
        async def aclose(self):
            await super().aclose()
            raise OSError("as asked")

    with pytest.raises(OSError, match="as asked"):
        async with papyra_lifecycle(Broken):
            pass


async def test_the_endpoints_take_a_system():
    async with ActorSystem(system_id="web") as system:
        for endpoint in (livez, readyz, healthz):

            async def app(scope, receive, send, endpoint=endpoint):
                await endpoint(scope, receive, send, system=system)

            assert (await Client(app, {}).get("/")).body == b"ok\n"

        async def numbers(scope, receive, send):
            await metrics(scope, receive, send, system=system, format="json")

        assert (await Client(numbers, {}).get("/")).json()["system_id"] == "web"


def test_a_config_is_checked():
    for wrong in ({"metrics_format": "xml"}, {"readyz": {"store": "maybe"}}, {"livez_path": "livez"}):
        with pytest.raises(ValueError, match="must"):
            PapyraASGIConfig(**wrong)
    with pytest.raises(TypeError, match="a closed system can't be started again"):
        ASGIPapyra(ActorSystem())


async def test_a_level_for_a_check_that_is_not_there_fails_the_start():
    p = ASGIPapyra(make, PapyraASGIConfig(readyz={"stroe": "fail"}))
    with pytest.raises(
        ValueError, match=r"unknown check .stroe.; valid ones are system, store, mailboxes, restarts, stuck$"
    ):
        async with running(p.wrap(nothing)):
            pass


def test_published_names(monkeypatch):
    """Promise 6: the names of 0.3.0 take the arguments they took; `scan` warns once."""
    signatures = {
        papyra_lifecycle: ["system_factory", "persistence_startup", "persistence_recovery"],
        healthz: ["scope", "receive", "send", "system", "mode", "startup_config"],
        metrics: ["scope", "receive", "send", "system", "format"],
        PapyraASGIConfig: [
            *("health_path", "metrics_path", "health_mode", "persistence_startup", "persistence_recovery"),
            "metrics_format",
        ],
        ASGIPapyra: ["system_factory", "config"],
    }
    for called, taken in signatures.items():
        parameters = [name for name in inspect.signature(called).parameters if name in taken]
        assert parameters == taken, called
    monkeypatch.setattr("papyra_contrib.asgi._config._warned_of_scan", False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            PapyraASGIConfig("/healthz", "/metrics", "scan", None, None, "json")
    assert ["scan" in str(each.message) for each in told] == [True]  # once in a process
    from papyra_contrib.asgi.fastapi import FastAPIPapyra
    from papyra_contrib.asgi.lilya import LilyaPapyra
    from papyra_contrib.asgi.ravyn import RavynPapyra
    from papyra_contrib.asgi.starlette import StarlettePapyra

    for adapter in (StarlettePapyra, FastAPIPapyra, LilyaPapyra, RavynPapyra):
        p = adapter(make, PapyraASGIConfig(health_path="/health"))
        assert callable(p.lifespan)
        assert callable(p.install)
        assert p.system_factory is make
        assert p.config.health_path == "/health"


async def test_papyra_lifecycle_as_it_was():
    async with papyra_lifecycle(make) as system:
        assert system.state == "running"
    assert system.state == "closed"
