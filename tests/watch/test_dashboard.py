"""Section 7 of watch.md: the dashboard, asked without a server. Browsers: `test_dashboard_browser`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import unicodedata
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import anyio
import anyio.lowlevel
import pytest

from papyra import ActorStopped, ActorSystem, Strategy, SupervisionPolicy
from papyra.deadletters import DeadLetterPolicy
from papyra.exceptions import PersistenceError
from papyra.persistence import open_backend
from papyra.persistence.models import PersistedEvent
from papyra.persistence.processes import process_started
from papyra_cli._escape import printable as printable_of_the_command
from papyra_cli.commands._run_history import RunHistory
from papyra_contrib._printable import printable
from papyra_contrib.admin import AdminSocket
from papyra_contrib.dashboard import Dashboard, RecordSource, SocketSource, SourceGone
from papyra_contrib.dashboard._attention import attention, record_attention
from papyra_contrib.dashboard._command import _source_of
from papyra_contrib.dashboard._fact_lines import describe
from papyra_contrib.dashboard._format import clock, count, counted, span
from papyra_contrib.dashboard._poller import Poller, Snapshot, Totals

from .._loops import one_loop
from ._asgi import running
from ._dashboard import HOSTILE, SIGNED_IN, TOKEN, VIEWS, Echo, Sleeper, ask

HTMX_SHA256 = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
RESTART = SupervisionPolicy(Strategy.RESTART, max_restarts=1000)


async def spoil(system: ActorSystem) -> None:
    """Leave a crash, a restart and a dead letter, all with a hostile text."""
    actor = system.spawn(Echo, name=HOSTILE, policy=RESTART)
    with pytest.raises(ValueError, match="script"):
        await actor.ask(ValueError(HOSTILE))
    gone = system.spawn(Echo, name="gone" + HOSTILE)
    await system.stop(gone)
    with pytest.raises(ActorStopped):
        await gone.tell(HOSTILE)
    with anyio.fail_after(20):
        while not any(type(event).__name__ == "ActorRestarted" for event in system.events()):
            await anyio.lowlevel.checkpoint()


def a_second_later(app: Dashboard) -> None:
    """Let the dashboard look again."""
    if app._poller._snapshot is not None:
        app._poller._snapshot.taken -= 1
    app._renderer._kept.clear()


# -- 7.1: every view of everything


@pytest.mark.parametrize("view", [*VIEWS, "actor?id=local:1"])
async def test_views_of_an_empty_system(view: str):
    async with ActorSystem() as system:
        app = Dashboard(system, token=TOKEN)
        page = await ask(app, f"/{view}")
        assert page.status == 200
        assert ">running</span>" in page.text
        if view.startswith("actor?"):
            assert "no actor &#39;local:1&#39; any more" in page.text
        assert (await ask(app, f"/live?view={view.replace('?', '&')}")).status == 200


@one_loop
async def test_views_of_12_000_actors():
    async with ActorSystem(shutdown_timeout=0.1) as system:
        for _ in range(12_000):
            system.spawn(Echo)
        sleeper = system.spawn(Sleeper, name="sleeper", mailbox_capacity=10)
        for _ in range(10):
            await sleeper.tell("wait")
        while not system.busy():
            await anyio.lowlevel.checkpoint()
        app = Dashboard(system, token=TOKEN)
        for view in (*VIEWS, "actor?id=sleeper", "tree?kind=Echo&offset=11950", "actors?by=rate&offset=50"):
            page = await ask(app, f"/{view}")
            assert page.status == 200, view
            assert "Nothing to show" not in page.text, view
            assert len(page.text) < 100_000
        tree = (await ask(app, "/tree")).text
        assert re.search("12,000 . Echo", tree)
        unfolded = (await ask(app, "/tree?kind=Echo&offset=11950")).text
        assert unfolded.count("<tr>") == 51
        assert "local:12000<" in unfolded
        assert "offset=11900" in unfolded  # the page before, of 50 rows
        assert "offset=300" in (await ask(app, "/tree?offset=600")).text  # a folded tree has pages of 300
        for by in ("mailbox", "rate", "processed", "restarts", "latency"):
            assert 'aria-sort="descending"' in (await ask(app, f"/actors?by={by}")).text
        found = (await ask(app, "/actors?find=SLEEP")).text
        assert found.count("<tr>") == 2
        assert (await ask(app, "/actors?find=11999")).text.count("<tr>") == 2
        one = (await ask(app, "/actor?id=sleeper")).text
        assert "Sleeper.receive _dashboard.py" in one


async def test_views_of_a_closing_system_and_of_a_closed_one():
    system = ActorSystem(shutdown_timeout=30.0)  # it is cancelled long before
    app = Dashboard(system, token=TOKEN)
    assert "it is not started" in (await ask(app, "/overview")).text
    await system.start()
    sleeper = system.spawn(Sleeper)
    await sleeper.tell("wait")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(system.aclose)
        while system.state != "closing":
            await anyio.lowlevel.checkpoint()
        app = Dashboard(system, token=TOKEN)
        for view in VIEWS:
            page = await ask(app, f"/{view}")
            assert page.status == 200, view
            assert ">closing</span>" in page.text
        tasks.cancel_scope.cancel()
    app = Dashboard(system, token=TOKEN)
    for view in VIEWS:
        assert (await ask(app, f"/{view}")).status == 200, view


async def test_views_of_a_damaged_record(tmp_path: Path):
    store = tmp_path / "store.ndjson"
    async with ActorSystem(system_id="shop", persistence=f"json:{store}") as system:
        await spoil(system)
    lines = store.read_bytes().splitlines(keepends=True)
    store.write_bytes(b"".join([*lines[:3], b'{"half": \n', b"\xff\xfe\x00\n", *lines[3:], b'{"torn']))
    source = RecordSource(f"json:{store}", payloads=True)
    app = Dashboard(source, token=TOKEN)
    for view in (
        "overview",
        "letters",
        "timeline",
        "store",
        "plugins",
        "actor?id=shop:1",
        "timeline?kind=ActorCrashed",
    ):
        page = await ask(app, f"/{view}")
        assert page.status == 200, view
        assert "Nothing to show" not in page.text, view
        assert "<script>alert" not in page.text
    assert "found</span>" in (await ask(app, "/store")).text
    for view in ("actors", "tree"):  # what a record can't tell is left out of the bar, and said
        page = await ask(app, f"/{view}")
        assert "A record has no mailboxes" in page.text
        assert f'href="{view}"' not in page.text
    await app.aclose()


async def test_a_record_says_how_each_run_ended(tmp_path: Path):
    """It is what ``papyra inspect runs`` says, and a killed run needs attention."""
    url = f"json:{tmp_path / 'store.ndjson'}"
    mine = {"host": socket.gethostname(), "pid": os.getpid()}
    running = {**mine, "process_started": process_started(os.getpid())}
    runs = {
        "a-clean": (running, "closed"),
        "b-failed": (running, "error"),
        "c-killed": ({**mine, "process_started": 1.0}, None),
        "d-unknown": ({**running, "host": "elsewhere.example"}, None),
        "e-running": (running, None),
    }
    backend, history = open_backend(url), RunHistory()
    for number, (run, (started, reason)) in enumerate(runs.items()):
        facts = [("SystemStarted", started)] + ([("SystemStopped", {"reason": reason})] if reason else [])
        for second, (kind, payload) in enumerate(facts):
            event = PersistedEvent("shop", "shop:0", kind, payload, 1e9 + 100 * number + second, run)
            await backend.record_event(event)
            history.add(event)
    await backend.aclose()
    app = Dashboard(RecordSource(url), token=TOKEN)
    page = (await ask(app, "/overview")).text
    await app.aclose()
    shown = dict(re.findall(r"<td><code>(.+?)</code></td><td>.+?</td><td>.+?</td><td>(.+?)</td>", page))
    assert shown == {run: run[2:] for run in runs} == {one.run: one.ended for one in history.runs()}
    attention = page[page.index('id="attention"') : page.index("Latest facts")]
    assert "run c-killed was killed" in attention
    assert "run b-failed ended with an error" in attention
    assert "running" not in attention
    assert "unknown" not in attention


ODD_FACTS = [
    ("SystemStarted", {"pid": [1], "host": 7}),
    ("SystemStopped", {"facts_dropped": "many", "reason": {}}),
    ("ActorStopped", {"type": "shop.Cart", "processed": "all", "reason": 3}),
    ("ActorRestarted", {"type": ["shop"], "name": {}, "delay": 10**400}),
    ("ActorRestarted", {"type": "shop.Cart", "delay": -1e308}),
    ("ActorCrashed", {"type": "", "error": None}),
    ("<b>", {}),
]


async def test_views_of_a_record_with_facts_that_another_program_wrote(tmp_path: Path):
    store = tmp_path / "store.ndjson"
    moments = (-1e308, -5, 0, 1e9, 10**40, 10**400, 1e308)
    fact = {"kind": "event", "system_id": "shop", "actor_address": "shop:1"}
    store.write_text(
        "".join(
            json.dumps({**fact, "event_type": kind, "payload": payload, "timestamp": moment}) + "\n"
            for moment in moments
            for kind, payload in ODD_FACTS
        )
    )
    app = Dashboard(RecordSource(f"json:{store}", payloads=True), token=TOKEN)
    for view in ("overview", "letters", "timeline", "timeline?since=0", "store", "actor?id=shop:1"):
        page = await ask(app, f"/{view}")
        assert page.status == 200, view
        assert "Nothing to show" not in page.text, view
    await app.aclose()


async def test_a_record_does_not_say_what_living_actors_have_handled(tmp_path: Path):
    url = f"json:{tmp_path / 'store.ndjson'}"
    backend = open_backend(url)
    for second, (kind, payload) in enumerate(
        [
            ("ActorStarted", {"type": "shop.Alive"}),
            ("ActorStarted", {"type": "shop.Gone"}),
            ("ActorStopped", {"type": "shop.Gone", "processed": 7}),
        ]
    ):
        await backend.record_event(PersistedEvent("shop", "shop:1", kind, payload, 1e9 + second, "run"))
    await backend.aclose()
    app = Dashboard(RecordSource(url), token=TOKEN)
    page = (await ask(app, "/overview")).text
    await app.aclose()
    rows = {
        name: re.findall('<td class="num">(.+?)</td>', rest)
        for name, rest in re.findall(r"(?s)>(Alive|Gone)</a>(.+?)</tr>", page)
    }
    assert rows["Alive"][-2] == "\N{EN DASH}"
    assert rows["Gone"][-2] == "7"


async def test_long_names_are_cut_and_a_quiet_system_has_a_rate():
    async with ActorSystem() as system:
        app = Dashboard(system, token=TOKEN)
        assert "<h2>Messages a second</h2><strong>0</strong>" in (await ask(app, "/overview")).text
        actor = system.spawn(Echo, name="w" * 5000)
        for view in ("overview", "actors", "tree", "timeline"):
            a_second_later(app)
            page = (await ask(app, f"/{view}")).text
            assert "w" * 90 in page, view
            assert "w" * 200 not in page, view
        assert "w" * 5000 in (await ask(app, f"/actor?id={actor.address}")).text


async def test_the_last_page_of_dead_letters_has_no_next_one():
    async with ActorSystem() as system:
        gone = system.spawn(Echo)
        await system.stop(gone)
        app = Dashboard(system, token=TOKEN)
        for letters, pages in ((50, 1), (51, 2)):
            while system.dead_letters.count < letters:
                with pytest.raises(ActorStopped):
                    await gone.tell("a message")
            a_second_later(app)
            assert ('rel="next"' in (await ask(app, "/letters")).text) == (pages == 2)
        assert 'rel="next"' not in (await ask(app, "/letters?offset=50")).text


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


async def test_a_dead_letter_without_a_text_hides_no_other():
    async with ActorSystem() as system:
        gone = system.spawn(Echo)
        await system.stop(gone)
        for message in ("before", Unreadable(), "after"):
            with pytest.raises(ActorStopped):
                await gone.tell(message)
        page = await ask(Dashboard(system, token=TOKEN, payloads=True), "/letters")
        assert page.status == 200
        assert [text in page.text for text in ("before", "Unreadable", "after")] == [True] * 3


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        (DeadLetterPolicy(redact=lambda message: "a card"), "a card"),
        (DeadLetterPolicy(redact=lambda message: 1 / 0), None),
        (DeadLetterPolicy(payload="type"), None),
    ],
    ids=["redacted", "redact raises", "type alone"],
)
async def test_p48_a_page_shows_no_more_of_a_dead_letter_than_the_record(
    policy: DeadLetterPolicy, shown: str | None
):
    async with ActorSystem(dead_letter_policy=policy) as system:
        gone = system.spawn(Echo)
        await system.stop(gone)
        with pytest.raises(ActorStopped):
            await gone.tell("4111 1111 1111 1111")
        page = await ask(Dashboard(system, token=TOKEN, payloads=True), "/letters")
        assert "4111" not in page.text
        assert shown is None or shown in page.text


async def test_a_dashboard_shows_the_system_of_now():
    """An application that starts again, as in the tests of its owner, has another system each time."""
    systems: list[ActorSystem] = []

    def find() -> ActorSystem:
        if not systems:
            raise LookupError("the lifespan did not run")
        return systems[-1]

    app = Dashboard(find, token=TOKEN)
    nothing = await ask(app, "/overview")
    assert (nothing.status, "No actor system runs now" in nothing.text) == (503, True)
    for name in ("first", "second"):
        async with ActorSystem(system_id=name) as system:
            systems.append(system)
            page = (await ask(app, "/overview")).text
            assert f"/</span> {name}</div>" in page
            assert ">running</span>" in page
        systems.clear()
        assert (await ask(app, "/overview")).status == 503


async def test_a_record_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = RecordSource(f"json:{tmp_path / 'store.ndjson'}")
    app = Dashboard(source, token=TOKEN)

    async def refuse(**span: object):
        raise PersistenceError("the disk is <gone>")
        yield

    monkeypatch.setattr(source._backend, "stream", refuse)
    for view in ("overview", "letters", "timeline"):
        page = await ask(app, f"/{view}")
        assert page.status == 200
        assert "the disk is &lt;gone&gt;" in page.text
        assert ">gone</span>" in page.text
    await app.aclose()


async def test_a_page_says_that_the_record_does_not_have_an_actor(tmp_path: Path):
    app = Dashboard(RecordSource(f"json:{tmp_path / 'store.ndjson'}"), token=TOKEN)
    page = await ask(app, "/actor?id=local:7")
    await app.aclose()
    assert "no actor &#39;local:7&#39; appears in the facts that were read" in page.text


async def test_a_store_is_scanned_once_until_it_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = tmp_path / "store.ndjson"
    async with ActorSystem(persistence=f"json:{store}") as system:
        await spoil(system)
    source = RecordSource(f"json:{store}")
    scans: list[str] = []
    scan = source._backend.scan

    async def counted_scan() -> Any:
        scans.append("scan")
        return await scan()

    monkeypatch.setattr(source._backend, "scan", counted_scan)
    app = Dashboard(source, token=TOKEN, actions=True)
    given = {**SIGNED_IN, "sec-fetch-site": "same-origin"}
    for _ in range(2):
        for _ in range(2):
            app._renderer and app._renderer._kept.clear()
            assert "Nothing to show" not in (await ask(app, "/store")).text
        done = await ask(app, "/actions/compact", "POST", given)
        assert json.loads(done.text)["done"].startswith("compacted: 0 records removed, ")
    assert scans == ["scan"] * 2
    refused = await ask(app, "/actions/stop?actor=local:1", "POST", given)
    assert (refused.status, json.loads(refused.text)) == (409, {"error": "stop is not possible here"})

    async def refuse(*_: object) -> Any:
        raise PersistenceError("the disk is gone")

    monkeypatch.setattr(source._backend, "compact", refuse)
    monkeypatch.setattr(source._backend, "scan", refuse)
    failed = await ask(app, "/actions/compact", "POST", given)
    assert (failed.status, json.loads(failed.text)) == (409, {"error": "the disk is gone"})
    app._renderer._kept.clear()
    assert "the disk is gone" in (await ask(app, "/store")).text
    await app.aclose()


async def test_an_action_that_a_system_behind_a_socket_does_not_take_is_refused(tmp_path: Path):
    app = Dashboard(SocketSource(tmp_path / "none.sock"), token=TOKEN, actions=True)
    refused = await ask(app, "/actions/audit", "POST", {**SIGNED_IN, "sec-fetch-site": "same-origin"})
    assert (refused.status, json.loads(refused.text)) == (409, {"error": "audit is not possible here"})


async def test_a_socket_that_does_not_greet_is_refused(tmp_path: Path):
    source = SocketSource(tmp_path / "odd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "odd.sock"))
        listener.listen()
        listener.setblocking(False)

        async def refuse() -> None:
            await anyio.wait_readable(listener)
            with listener.accept()[0] as accepted:
                accepted.sendall(b'{"error": "there are 8 clients already"}\n')

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refuse)
            with pytest.raises(SourceGone) as gone:
                await source.plugins()
    assert str(gone.value.__cause__) == "there are 8 clients already"


async def test_an_actor_s_page_has_its_policy():
    async with ActorSystem() as system:
        app = Dashboard(system, token=TOKEN)
        for strategy, shown in (
            (Strategy.STOP, "stop"),
            (Strategy.RESTART, "restart, 3 of 3 left within 60 s"),
        ):
            ref = system.spawn(Echo, policy=SupervisionPolicy(strategy, max_restarts=3))
            page = (await ask(app, f"/actor?id={ref.address}")).text
            assert f"<dd>{shown}</dd>" in page


def test_a_node_that_left_the_cluster_is_described():
    row = {"type": "NodeDown", "payload": {"node": "b", "reason": "left", "incarnation": 7}}
    assert describe(row) == "b, left"


# -- what needs attention

QUIET: dict[str, Any] = {
    "statistics": {"kinds": {}, "facts": {"healthy": True, "store": "json"}, "hooks": []},
    "busy": [],
    "longest": [],
}
CART = {"fullest": 0.0, "restarting": 0, "senders": 0}
BUSY = {"address": "shop:1", "name": "", "actor_type": "Cart", "where": "Cart.pay shop.py:7", "awaits": ""}


@pytest.mark.parametrize(
    ("statistics", "busy", "totals", "notes"),
    [
        ({}, [], {}, []),
        ({}, [{**BUSY, "seconds": 4.9}], {}, []),
        (
            {},
            [{**BUSY, "seconds": 6.0}, {**BUSY, "name": "cart", "awaits": "sleep", "seconds": 31.0}],
            {},
            [
                ("bad", "cart has handled one message for 31 s", "Cart.pay shop.py:7, awaits sleep"),
                ("odd", "Cart shop:1 has handled one message for 6 s", "Cart.pay shop.py:7"),
            ],
        ),
        (
            {"facts": {"healthy": False, "store": "json"}},
            [],
            {"dropped": 9.0, "new_dropped": 1.0},
            [("bad", "the store json is not healthy", ""), ("bad", "1 fact dropped in the last minute", "")],
        ),
        ({}, [], {"dropped": 9.0}, [("odd", "9 facts dropped since the start", "")]),
        (
            {"kinds": {"Cart": {**CART, "fullest": 0.9}}},
            [],
            {},
            [("odd", "a mailbox of Cart is 90% full", "")],
        ),
        (
            {"kinds": {"Cart": {**CART, "restarting": 2}, "Till": CART}},
            [],
            {"new_restarts_of": {"Cart": 60.0, "Till": 10.0}},
            [
                ("bad", "Cart: 60 restarts in the last minute", "2 restarting now"),
                ("odd", "Till: 10 restarts in the last minute", ""),
            ],
        ),
        (
            {"hooks": [{"observer": "Audit", "failed": 1, "slow": 0, "dropped": 3}]},
            [],
            {},
            [
                ("odd", "Audit: 1 failed call since the start", ""),
                ("odd", "Audit: 3 dropped calls since the start", ""),
            ],
        ),
    ],
)
def test_attention_is_asked_for_what_an_operator_should_see(
    statistics: dict[str, Any], busy: list[Any], totals: dict[str, Any], notes: list[tuple[str, str, str]]
):
    answer = {**QUIET, "statistics": {**QUIET["statistics"], **statistics}, "busy": busy}
    assert [note[:3] for note in attention(Snapshot(0.0, answer, {}, {}, {}, Totals(**totals)))] == notes


def test_attention_is_asked_for_what_a_record_shows():
    runs = [{"run": name, "ended": "closed", "dropped": dropped} for name, dropped in (("a", 0), ("b", 2))]
    kinds = {name: {"crashes": crashes, "restarts": 1} for name, crashes in (("Cart", 10), ("Till", 9))}
    assert [note[:3] for note in record_attention({"runs": runs, "kinds": kinds})] == [
        ("bad", "run b dropped 2 facts", ""),
        ("odd", "Cart: 10 crashes", "1 restart"),
    ]


# -- what is remembered


async def test_rates_and_series_are_of_the_kinds_and_the_minutes_of_now(monkeypatch: pytest.MonkeyPatch):
    now, handled, kind = 1000.0, 0, "Cart"
    monkeypatch.setattr("papyra_contrib.dashboard._poller.time", SimpleNamespace(monotonic=lambda: now))

    async def overview() -> dict[str, Any]:
        counts = dict.fromkeys(("waiting", "alive", "restarts"), 0) | {"processed": handled}
        return {"statistics": {"kinds": {kind: counts}, "dead_letters": {}, "store": {}}}

    poller = Poller(cast("Any", SimpleNamespace(overview=overview)))
    for _ in range(200):
        snapshot = await poller.look()
        now, handled = now + 1, handled + 5
    assert snapshot.kind_rates == {"Cart": 5.0}
    assert len(snapshot.kind_series["Cart"].points) == 121
    kind = "Till"
    snapshot = await poller.look()
    assert (dict(snapshot.kind_rates), list(snapshot.kind_series)) == ({}, ["Till"])


def test_actors_that_no_page_shows_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("papyra_contrib.dashboard._poller.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("papyra_contrib.dashboard._poller.MAX_ACTORS", 2)
    poller = Poller(cast("Any", None))
    for name in "abc":
        assert poller.rates_of([{"address": name, "processed": 7}]) == {name: None}
    now += 5
    assert poller.rates_of([{"address": "c", "processed": 17}, {"address": "d", "processed": 0}]) == {
        "c": 2.0,
        "d": None,
    }
    now += 7
    poller.rates_of([{"address": "e", "processed": 0}])
    assert set(poller._actors) == {"c", "d", "e"}


async def test_pages_that_nobody_asks_for_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("papyra_contrib.dashboard._renderer.MAX_KEPT", 2)
    async with ActorSystem() as system:
        app = Dashboard(system, token=TOKEN)
        for find in "abc":
            await ask(app, f"/actors?find={find}")
        renderer = app._renderer
        assert renderer is not None
        for page in renderer._kept.values():
            page.kept_from -= 1
        app._poller._snapshot.taken -= 1
        await ask(app, "/actors?find=d")
        assert len(renderer._kept) == len(renderer._turns) == 1
        await app.aclose()
        assert (await ask(app, "/actors?find=d")).status == 200  # a system of this process goes on


async def test_views_take_any_parameters():
    async with ActorSystem() as system:
        system.spawn(Echo, name="echo")
        app = Dashboard(system, token=TOKEN)
        for view in ("actors", "tree", "letters", "timeline", "actor"):
            for parameters in (
                "offset=-1&by=nothing&find=%00%ff",
                "offset=99999999999999999999&since=nan&until=1e999",
                "id=%3Cscript%3E&below=nobody&kind=x&actor=*[",
                "since=9999-99-99&until=2026-07-01T12:00",
            ):
                page = await ask(app, f"/{view}?{parameters}")
                assert page.status == 200
                assert "<script>&" not in page.text


async def test_the_system_behind_a_socket_comes_and_goes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path_factory.mktemp("run") / "papyra"
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(folder))
    paths: list[Path] = []
    source = SocketSource(lambda: paths[-1])
    app = Dashboard(source, token=TOKEN, actions=True)
    for round_ in range(2):
        admin = AdminSocket(actions=True, payloads=True)
        async with ActorSystem(system_id=f"shop{round_}", instruments=[admin]) as system:
            await spoil(system)
            with anyio.fail_after(20):
                while admin.path is None:
                    await anyio.lowlevel.checkpoint()
            paths.append(admin.path)
            a_second_later(app)
            for view in (*VIEWS, "actor?id=shop0:1"):
                page = await ask(app, f"/{view}")
                assert page.status == 200
                assert f"/</span> shop{round_}</div>" in page.text, view
                assert "<script>alert" not in page.text
            assert source.actions == {"stop"}
            await anyio.lowlevel.checkpoint()
        a_second_later(app)
        gone = await ask(app, "/overview")
        assert "These are the last numbers that were seen" in gone.text
        with pytest.raises(SourceGone):
            await source.plugins()
    await app.aclose()


async def test_a_full_queue_of_the_system_behind_a_socket_is_tried_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a pause the poller held the event loop, for as long as the queue was full."""
    path, tries = tmp_path / "full.sock", 0

    class Counted(socket.socket):
        def connect(self, address: Any) -> None:
            nonlocal tries
            tries += 1
            super().connect(address)

        def connect_ex(self, address: Any) -> int:
            nonlocal tries
            tries += 1
            return super().connect_ex(address)

    async def serve(listener: socket.socket) -> None:
        """Let the one in that waited first, and answer the one behind it."""
        listener.setblocking(False)
        listener.accept()[0].close()
        await anyio.wait_readable(listener)
        with listener.accept()[0] as accepted:
            accepted.sendall(b'{"papyra_admin": 1, "ops": ["plugins"]}\n')
            await anyio.wait_readable(accepted)
            assert json.loads(accepted.recv(4096)) == {"id": 1, "op": "plugins"}
            accepted.sendall(b'{"id": 1, "ok": true, "result": {"rows": []}}\n')

    source = SocketSource(path)
    poller = Poller(source)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", Counted)
            patched.setattr("papyra_contrib.dashboard._system_sources.PATIENCE_SECONDS", 0.5)
            patched.setattr("papyra_contrib.dashboard._poller.LOOK_SECONDS", 0.4)
            snapshots = [await poller.look(), await poller.look()]
        assert [snapshot.gone for snapshot in snapshots] == ["the system has ended, or does not answer"] * 2
        assert poller.looks == 1  # a look that took long serves as long as any
        assert 2 <= tries <= 11
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve, listener)
                assert await source.plugins() == {"rows": []}
    await source.aclose()


async def test_a_source_that_is_closed_ends_the_request_on_its_way(tmp_path: Path):
    source = SocketSource(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mute.sock"))
        listener.listen()
        async with anyio.create_task_group() as tasks:

            async def ask_in_vain() -> None:
                with pytest.raises(SourceGone):
                    await source.plugins()

            with anyio.fail_after(5):
                tasks.start_soon(ask_in_vain)
                await anyio.wait_all_tasks_blocked()
                await source.aclose()
    assert source._connection is None


async def test_the_command_waits_for_the_system_that_comes_next(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PAPYRA_RUNTIME_DIR", str(tmp_path_factory.mktemp("run") / "papyra"))
    app: Dashboard | None = None
    for name in ("first", "second"):
        admin = AdminSocket()
        async with ActorSystem(system_id=name, instruments=[admin]):
            with anyio.fail_after(20):
                while admin.path is None:
                    await anyio.lowlevel.checkpoint()
            app = app or Dashboard(_source_of(None, None, None, None), token=TOKEN)
            with anyio.fail_after(20):
                while f"/</span> {name}</div>" not in (page := await ask(app, "/overview")).text:  # noqa: ASYNC110 - it looks again after a pause
                    await anyio.sleep(0.1)
            assert page.status == 200
        a_second_later(app)
        gone = await ask(app, "/overview")
        assert gone.status == 200
        assert "These are the last numbers that were seen" in gone.text
    await app.aclose()


# -- 7.2: escaping


async def test_escaping():
    async with ActorSystem() as system:
        await spoil(system)
        app = Dashboard(system, token=TOKEN, payloads=True)
        for view in (
            *VIEWS,
            f"actor?id={quote(HOSTILE)}",
            f"actors?find={quote(HOSTILE)}",
            f"timeline?actor={quote(HOSTILE)}",
        ):
            page = await ask(app, f"/{view}")
            assert page.status == 200
            assert "<script>alert" not in page.text, view
            bad = {char for char in page.text if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"}
            assert not bad, view
        for view in ("overview", "letters"):
            assert (
                "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e" in (await ask(app, f"/{view}")).text
            )


def test_escaping_is_that_of_the_command():
    for code in (*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFE00, 0x10000), 0xE0001, 0x10FFFF):
        assert printable(chr(code)) == printable_of_the_command(chr(code))


@pytest.mark.parametrize("payloads", [False, True])
async def test_payloads_are_shown_only_if_asked_for(payloads: bool):
    async with ActorSystem() as system:
        gone = system.spawn(Echo)
        await system.stop(gone)
        with pytest.raises(ActorStopped):
            await gone.tell("the secret")
        app = Dashboard(system, token=TOKEN, payloads=payloads)
        for view in ("letters", "overview"):
            assert ("the secret" in (await ask(app, f"/{view}")).text) is (payloads and view == "letters")


# -- 7.3: security


def test_dashboard_security_a_dashboard_for_everybody_is_said_aloud():
    with pytest.raises(ValueError, match=r"needs token= or authorize="):
        Dashboard(ActorSystem())
    with pytest.raises(ValueError, match="at least 16 characters"):
        Dashboard(ActorSystem(), token="short")
    with pytest.raises(TypeError, match="authorize must be"):
        Dashboard(ActorSystem(), authorize=True)
    Dashboard(ActorSystem(), authorize=Dashboard.OPEN)
    assert repr(Dashboard.OPEN) == "Dashboard.OPEN"


REFUSED = [
    (401, "GET", "/overview", {}),
    (401, "GET", "/live?view=overview", {}),
    (401, "GET", "/overview", {"x-papyra-token": "another token!!!"}),
    (401, "GET", "/?token=wrong", {}),
    (401, "GET", "/overview", {"cookie": "papyra-0=1"}),
    (401, "POST", "/actions/stop?actor=victim", {"sec-fetch-site": "same-origin"}),
    (400, "GET", "/overview", {**SIGNED_IN, "host": "evil.example"}),
    (400, "GET", "/static/papyra.js", {"host": "evil.example:8000"}),
    (400, "GET", "/overview", {**SIGNED_IN, "host": ""}),
    (400, "GET", "/overview", {**SIGNED_IN, "host": "localhost.evil.example"}),
    (403, "GET", "/live?view=overview", {**SIGNED_IN, "origin": "https://evil.example"}),
    (403, "GET", "/live?view=overview", {**SIGNED_IN, "origin": "null"}),
    (403, "GET", "/live?view=overview", {**SIGNED_IN, "origin": "http://[localhost:8000"}),
    (
        403,
        "GET",
        "/live?view=overview",
        {**SIGNED_IN, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ),
    (403, "GET", "/overview", {**SIGNED_IN, "sec-fetch-site": "same-site"}),
    (403, "POST", "/actions/stop?actor=victim", {**SIGNED_IN, "sec-fetch-site": "cross-site"}),
    (403, "POST", "/actions/stop?actor=victim", {**SIGNED_IN, "origin": "http://localhost:1"}),
    (403, "POST", "/actions/stop?actor=victim", SIGNED_IN),
    (405, "GET", "/actions/stop?actor=victim", {**SIGNED_IN, "sec-fetch-site": "same-origin"}),
    (405, "POST", "/overview", {**SIGNED_IN, "sec-fetch-site": "same-origin"}),
    (404, "POST", "/actions/shutdown", {**SIGNED_IN, "sec-fetch-site": "same-origin"}),
    (404, "GET", "/static/../_app.py", {}),
    (404, "GET", "/nothing", SIGNED_IN),
    (400, "GET", "/overview", {**SIGNED_IN, "host": "[::2]:8000"}),
]


@pytest.mark.parametrize(("status", "method", "path", "headers"), REFUSED)
async def test_dashboard_security(status: int, method: str, path: str, headers: dict[str, str]):
    async with ActorSystem() as system:
        victim = system.spawn(Echo, name="victim")
        app = Dashboard(system, token=TOKEN, actions=True)
        refused = await ask(app, path, method, headers)
        assert refused.status == status
        if status == 405:
            assert refused.headers["allow"] == ("POST" if path.startswith("/actions/") else "GET, HEAD")
        assert victim.is_alive()
        assert "victim" not in refused.text
        assert app.looks == 0  # nothing was done for it
        assert refused.headers["content-security-policy"].startswith("default-src 'none'")


async def test_dashboard_security_a_token_is_exchanged_for_a_cookie():
    async with ActorSystem() as system:
        app = Dashboard(system, token=TOKEN)
        signed_in = await ask(app, f"/?token={quote(TOKEN)}", headers={}, root="")
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie
        assert signed_in.headers["refresh"] == "0; url=./"
        given = {"cookie": cookie.partition(";")[0]}
        assert (await ask(app, "/overview", headers=given)).status == 200
        assert (await ask(app, "/overview", headers={**given, "host": "[::1]:8000"})).status == 200
        other = Dashboard(system, token="another token of 16")
        assert (await ask(other, "/overview", headers=given)).status == 401
        assert (await ask(app, "/overview", headers={"authorization": f"Bearer {TOKEN}"})).status == 200
        # A link from another site may be followed; the answer is not readable for that site.
        link = {**given, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert (await ask(app, "/overview", headers=link)).status == 200


async def test_dashboard_security_the_application_authorizes():
    async def admins_only(request) -> bool:
        await anyio.lowlevel.checkpoint()
        return request.headers.get("x-user") == "admin"

    async with ActorSystem() as system:
        for authorize in (admins_only, lambda request: request.headers.get("x-user") == "admin"):
            app = Dashboard(system, authorize=authorize, allowed_hosts=["shop.example.com"])
            host = {"host": "shop.example.com"}
            assert (await ask(app, "/overview", headers=host)).status == 403
            assert (await ask(app, "/overview", headers={**host, "x-user": "admin"})).status == 200
        anywhere = Dashboard(system, authorize=Dashboard.OPEN, allowed_hosts=["*"])
        assert (await ask(anywhere, "/overview", headers={"host": "any.example"})).status == 200


async def test_dashboard_security_actions_are_done_once_and_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "papyra")
    async with ActorSystem() as system:
        victim = system.spawn(Echo, name="victim")
        app = Dashboard(system, token=TOKEN, actions=True)
        page = await ask(app, "/actor?id=victim")
        found = re.search(r'name="papyra-token" content="(\w+)"', page.text)
        assert found
        assert found[1] != TOKEN
        cookie = (
            (await ask(app, f"/?token={quote(TOKEN)}", headers={})).headers["set-cookie"].partition(";")[0]
        )
        mine = {"sec-fetch-site": "same-origin", "cookie": cookie}
        assert (await ask(app, "/actions/stop?actor=victim", "POST", mine)).status == 403  # no header token
        mine["x-papyra-token"] = found[1]
        for action, done in (
            ("audit", "audited"),
            ("compact", "compacted"),
            ("stop?actor=victim", "stopped local:1"),
        ):
            answer = await ask(app, f"/actions/{action}", "POST", mine)
            assert answer.status == 200
            assert done in json.loads(answer.text)["done"]
            assert any(done in record.message for record in caplog.records)
        assert not victim.is_alive()
        again = await ask(app, "/actions/stop?actor=victim", "POST", mine)
        assert again.status == 409
        assert "no actor" in json.loads(again.text)["error"]


async def test_dashboard_security_without_actions_there_are_none():
    async with ActorSystem() as system:
        victim = system.spawn(Echo, name="victim")
        app = Dashboard(system, token=TOKEN)
        page = await ask(app, "/actor?id=victim")
        assert "papyra-token" not in page.text
        assert "read-only" in page.text
        given = {**SIGNED_IN, "sec-fetch-site": "same-origin"}
        assert (await ask(app, "/actions/stop?actor=victim", "POST", given)).status == 404
        assert victim.is_alive()


async def test_it_is_mounted_below_any_path():
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with ActorSystem() as system:
        app = Starlette(routes=[Mount("/watch", Dashboard(lambda: system, token=TOKEN))])
        assert (await ask(app, "/watch/")).status == 200
        assert (await ask(app, "/watch/actors")).status == 200
        redirected = await ask(app, "/watch")
        assert (redirected.status, redirected.headers["location"].endswith("/watch/")) == (307, True)
        signed_in = await ask(app, f"/watch/?token={quote(TOKEN)}", headers={})
        assert "Path=/watch/" in signed_in.headers["set-cookie"]
        styles = await ask(app, "/watch/static/papyra.css", headers={})
        assert (styles.status, styles.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_it_has_no_lifespan_and_no_websocket():
    async with ActorSystem() as system:
        app, sent = Dashboard(system, token=TOKEN), list[Any]()
        async with running(app, sent=sent):
            assert (await ask(app, "/watch", root="/watch")).headers["location"] == "/watch/"
            posted = await ask(app, "/static/papyra.css", "POST")
            assert (posted.status, json.loads(posted.text)) == (405, {"error": "Only GET is possible here."})
        assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "websocket"}, None, send)
        assert sent[2:] == [{"type": "websocket.close", "code": 1000}]


# -- 7.5: cost


async def test_dashboard_cost_one_look_a_second_for_all_visitors():
    async with ActorSystem() as system:
        system.spawn(Echo)
        app = Dashboard(system, token=TOKEN)
        async with anyio.create_task_group() as tasks:
            for view in VIEWS:
                for _ in range(5):
                    tasks.start_soon(ask, app, f"/live?view={view}")
        assert app.looks <= 2  # 2 if they took longer than a second
        assert app._renderer.renders <= 2 * len(VIEWS)
        looks = app.looks
        system.spawn(Echo)
        await anyio.sleep(1.1)  # longer than a snapshot serves
        assert app.looks == looks  # none when nobody looks


async def test_dashboard_cost_of_a_first_page():
    async with ActorSystem() as system:
        for number in range(12_000):
            system.spawn(Echo, name=f"actor-{number}")
        app = Dashboard(system, token=TOKEN)
        page = await ask(app, "/overview")
        assert len(page.text.encode()) < 30_000


def test_durations_have_the_unit_that_fits():
    shown = [
        span(seconds) for seconds in (0.0, 4e-6, 0.00052, 0.0097, 0.9996, 4.94, 38.2, 119, 7190, 90_000, 1e6)
    ]
    assert shown == [
        "0 s",
        "4 µs",
        "520 µs",
        "10 ms",
        "1.0 s",
        "4.9 s",
        "38 s",
        "119 s",
        "120 min",
        "25 h",
        "12 days",
    ]


def test_one_of_a_thing_is_singular():
    assert [counted(number, "fact") for number in (0, 1, 2, 1200)] == [
        "0 facts",
        "1 fact",
        "2 facts",
        "1,200 facts",
    ]
    assert [span(seconds) for seconds in (1, 2, 60)] == ["1 s", "2 s", "60 s"]
    assert [shown(10**400) for shown in (count, span, clock)] == ["\N{EN DASH}"] * 3


def test_htmx_is_what_was_published_and_its_licence_comes_with_it():
    static = files("papyra_contrib.dashboard").joinpath("static")
    content = static.joinpath("htmx.min.js").read_bytes()
    assert b"4.0.1" in content
    assert hashlib.sha256(content).hexdigest() == HTMX_SHA256
    licence = static.joinpath("htmx.LICENSE.txt").read_text("utf-8")
    assert licence.startswith("Zero-Clause BSD")
    assert (Path(__file__).parents[2] / "LICENSES" / "0BSD-htmx.txt").read_text("utf-8") == licence
