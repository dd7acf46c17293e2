"""`papyra_contrib.asgi` in five frameworks: three ways in, on both event loops (watch.md 3, promises 1, 3,
4).
"""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, Any

import anyio
import pytest

from papyra import Actor, ActorRef, ActorSystem, AskTimeout
from papyra_contrib.asgi import ASGIPapyra, compose, system_of
from papyra_contrib.asgi._errors import ErrorResponses

from ._asgi import Client, running


class Greeter(Actor):
    async def receive(self, message: str) -> Any:
        if message == "slow":
            self.slow = self.context.reply_later()
            return self.slow.later  # which never comes
        return f"hello {message}"

    async def on_stop(self) -> None:
        LOG.append("greeter stopped")


LOG: list[str] = []


def make() -> ActorSystem:
    LOG.append("made")
    return ActorSystem(system_id="web", shutdown_timeout=0.5)


async def setup(system: ActorSystem) -> None:
    system.spawn(Greeter, name="greeter")
    LOG.append("set up")


@asynccontextmanager
async def own_lifespan(app: Any):
    LOG.append("own opens")
    yield
    LOG.append("own closes")


async def greet(request: Any) -> str:
    who = request.path_params["who"]
    system = system_of(request)
    greeter = system.ref_for_name("greeter")
    if who == "stopped":
        await system.stop(greeter)
    return await greeter.ask(who, timeout=0.02 if who == "slow" else 5)


def starlette(papyra_class, way):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from papyra_contrib.asgi.starlette import StarlettePapyra

    async def handler(request):
        return PlainTextResponse(await greet(request))

    p = StarlettePapyra(make, setup=setup)
    lifespan = compose(p.lifespan, own_lifespan) if way == "lifespan" else own_lifespan
    app = Starlette(routes=[Route("/greet/{who}", handler)], lifespan=lifespan)
    return p, app


def fastapi(papyra_class, way):
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse

    from papyra_contrib.asgi.fastapi import FastAPIPapyra

    p = FastAPIPapyra(make, setup=setup)
    app = FastAPI(lifespan=compose(p.lifespan, own_lifespan) if way == "lifespan" else own_lifespan)

    async def handler(request: Request):
        return PlainTextResponse(await greet(request))

    handler.__annotations__["request"] = Request
    app.get("/greet/{who}")(handler)
    return p, app


def lilya(papyra_class, way):
    from lilya.apps import Lilya
    from lilya.requests import Request
    from lilya.responses import PlainText
    from lilya.routing import Path

    from papyra_contrib.asgi.lilya import LilyaPapyra

    async def handler(request):
        return PlainText(await greet(request))

    handler.__annotations__["request"] = Request
    p = LilyaPapyra(make, setup=setup)
    lifespan = compose(p.lifespan, own_lifespan) if way == "lifespan" else own_lifespan
    return p, Lilya(routes=[Path("/greet/{who}", handler)], lifespan=lifespan)


def ravyn(papyra_class, way):
    from ravyn import Gateway, Ravyn, Request, get
    from ravyn.responses import PlainText

    from papyra_contrib.asgi.ravyn import RavynPapyra

    async def handler(request, who):
        return PlainText(await greet(request))

    handler.__annotations__.update({"request": Request, "who": str, "return": PlainText})
    p = RavynPapyra(make, setup=setup)
    lifespan = compose(p.lifespan, own_lifespan) if way == "lifespan" else own_lifespan
    return p, Ravyn(routes=[Gateway(handler=get("/greet/{who}")(handler))], lifespan=lifespan)


def litestar(papyra_class, way):
    from litestar import Litestar, MediaType, Request, get

    from papyra_contrib.asgi.litestar import LitestarPapyra

    async def handler(request):
        return await greet(request)

    handler.__annotations__.update({"request": Request, "return": str})
    p = LitestarPapyra(make, setup=setup)
    lifespan = [p.lifespan, own_lifespan] if way == "lifespan" else [own_lifespan]
    app = Litestar(
        [get("/greet/{who:str}", media_type=MediaType.TEXT)(handler)],
        lifespan=lifespan,
        plugins=[p] if way == "install" else [],
    )
    return p, app


FRAMEWORKS = {each.__name__: each for each in (starlette, fastapi, lilya, ravyn, litestar)}


@pytest.mark.parametrize("way", ["lifespan", "install", "wrap"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_frameworks(framework, way):
    """Promise 1: started before the first request, closed after the last; own lifespans still run, inside."""
    LOG.clear()
    pytest.importorskip(framework)  # scripts/test_frameworks has not all of them in one environment
    p, app = FRAMEWORKS[framework](None, way)
    if way == "install" and framework != "litestar":
        p.install(app)
    if way == "wrap":
        app = p.wrap(app)
    with pytest.raises(LookupError, match="lifespan"):
        _ = p.system
    async with running(app) as client:
        assert LOG == ["made", "set up", "own opens"]
        assert p.system.state == "running"
        answer = await client.get("/greet/world")
        assert (answer.status, answer.body) == (200, b"hello world")
        if way != "lifespan":
            assert (await client.get("/livez")).body == b"ok\n"
            assert (await client.get("/readyz")).status == 200
            assert (await client.get("/healthz?verbose")).body.startswith(
                b"[+]system ok: running\n[+]store ok: memory"
            )
            assert (await client.get("/metrics")).status == 200
            assert (await client.post("/livez")).status == 405
        if way == "install":
            slow = await client.get("/greet/slow")
            assert (slow.status, slow.headers["content-type"]) == (504, "application/problem+json")
            gone = await client.get("/greet/stopped")
            assert (gone.status, gone.headers["retry-after"]) == (503, "1")
            assert b"greeter" not in gone.body
        system = p.system
        before = list(LOG)
    assert system.state == "closed"
    ended = LOG[len(before) :]
    assert ended == (["own closes"] if "greeter stopped" in before else ["own closes", "greeter stopped"])


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "lilya", "ravyn", "litestar"])
async def test_no_lifespan(framework):
    """Promise 4: a request without lifespan is a `LookupError` that says so."""
    pytest.importorskip(framework)
    _, app = FRAMEWORKS[framework](None, "lifespan")
    async with running(app, lifespan=False) as client:
        try:
            answer = await client.get("/greet/world")
        except BaseException as error:
            found = error
            while found is not None and not isinstance(found, LookupError):
                found = found.__cause__ or found.__context__
            assert "the lifespan of the application did not run" in str(found)
        else:
            assert answer.status == 500
    with pytest.raises(LookupError, match="the lifespan of the application did not run"):
        system_of({"type": "http"})


@pytest.mark.parametrize("way", ["install", "wrap"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_the_endpoints_say_that_no_lifespan_ran(framework, way):
    """A probe needs a reason, and not the 404 of an application that does not know the path."""
    pytest.importorskip(framework)
    p, app = FRAMEWORKS[framework](None, way)
    if way == "install" and framework != "litestar":
        p.install(app)
    if way == "wrap":
        app = p.wrap(app)
    async with running(app, lifespan=False) as client:
        for path in ("/livez", "/readyz", "/healthz", "/metrics"):
            answer = await client.get(path)
            assert (answer.status, b"the lifespan of the application did not run" in answer.body) == (
                503,
                True,
            )
        assert (await client.get("/livez?format=json")).json()["status"] == "fail"
        assert (await client.post("/livez")).status == 405


class Refusing:
    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            raise AssertionError("only http")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(system_of(scope)).encode()})


class Silent(Refusing):
    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            await super().__call__(scope, receive, send)


@pytest.mark.parametrize("app", [Refusing(), Silent()])
async def test_wrap_runs_a_system_around_an_application_without_a_lifespan(app):
    LOG.clear()
    p = ASGIPapyra(make, setup=setup)
    async with running(p.wrap(app)) as client:
        assert (await client.get("/")).body == b"<ActorSystem 'web' running>"
        assert (await client.get("/livez")).status == 200
        with pytest.raises(RuntimeError, match="runs already"):
            async with p.lifespan():
                pass
    assert LOG == ["made", "set up", "greeter stopped"]


@pytest.mark.parametrize("wrong", ["setup", "store", "own", "own without an error"])
async def test_failed_start(wrong, tmp_path):
    """Promise 3: `lifespan.startup.failed` with the reason, and an exception; nothing runs."""
    made = []

    def factory():
        made.append(
            ActorSystem(
                persistence=f"json:{tmp_path / 'store.ndjson'}", persistence_startup="fail_on_anomaly"
            )
        )
        return made[-1]

    def breaks(system):
        raise ValueError("no orders table")

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "own reason"})
        if wrong == "own":
            raise ValueError("own reason")

    if wrong == "store":
        (tmp_path / "store.ndjson").write_text("garbage\n")
    p = ASGIPapyra(factory, setup=breaks if wrong == "setup" else None)
    sent = []
    with pytest.raises((ValueError, RuntimeError)) if wrong != "own without an error" else nullcontext():
        async with running(p.wrap(app if "own" in wrong else Refusing()), sent=sent):
            pass
    reasons = {"setup": "no orders table", "store": "anomal"}
    assert [each["type"] for each in sent] == ["lifespan.startup.failed"]
    assert reasons.get(wrong, "own reason") in sent[0]["message"]
    assert made[0].state == "closed" or made[0].persistence.closed
    assert not p.is_open


async def test_a_system_that_ends_from_inside_turns_livez_and_is_reported_at_the_shutdown():
    class Exits(Actor):
        async def receive(self, message):
            raise SystemExit(3)

    p = ASGIPapyra(lambda: ActorSystem(system_id="web"))
    sent = []
    with pytest.raises(RuntimeError, match="SystemExit came out of an actor"):  # noqa: PT012 - it comes from the end of the block
        async with running(p.wrap(Silent()), sent=sent) as client:
            await p.system.spawn(Exits).tell(1)
            with anyio.fail_after(5):
                while (await client.get("/livez")).status == 200:  # noqa: ASYNC110 - nothing tells when it is
                    await anyio.sleep(0.01)
            assert (await client.get("/livez?format=json")).json()["status"] == "fail"
            assert (await client.get("/readyz")).status == 503
    assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]


async def test_actors_as_parameters_of_fastapi():
    from fastapi import FastAPI, WebSocket

    from papyra_contrib.asgi.fastapi import ActorOf, FastAPIPapyra, System

    p = FastAPIPapyra(make, setup=setup)
    app = FastAPI(lifespan=p.lifespan)
    Ref = Annotated[ActorRef, ActorOf("greeter")]

    async def by_name(greeter):
        return await greeter.ask("name")

    async def by_class(greeter, system):
        return f"{await greeter.ask('class')} of {system.system_id}"

    def in_a_thread(greeter):
        return anyio.from_thread.run(greeter.ask, "thread")

    async def nobody(greeter):
        return "never"

    async def talk(socket, greeter, system):
        await socket.accept()
        await socket.send_text(await greeter.ask(system.system_id))
        await socket.close()

    by_name.__annotations__["greeter"] = in_a_thread.__annotations__["greeter"] = Ref
    by_class.__annotations__.update({"greeter": Annotated[ActorRef, ActorOf(Greeter)], "system": System})
    nobody.__annotations__["greeter"] = Annotated[ActorRef, ActorOf("nobody")]
    talk.__annotations__.update({"socket": WebSocket, "greeter": Ref, "system": System})
    for path, handler in {
        "/name": by_name,
        "/class": by_class,
        "/thread": in_a_thread,
        "/nobody": nobody,
    }.items():
        app.get(path)(handler)
    app.websocket("/talk")(talk)
    async with running(app) as client:
        assert (await client.get("/name")).json() == "hello name"
        assert (await client.get("/class")).json() == "hello class of web"
        assert (await client.get("/thread")).json() == "hello thread"
        assert (await client.get("/nobody")).status == 503
        assert await client.websocket("/talk") == ["hello web"]


async def test_an_error_in_a_websocket_closes_it():
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    from papyra_contrib.asgi.starlette import StarlettePapyra

    async def talk(socket):
        await socket.accept()
        raise AskTimeout("too slow", 1.0)

    app = Starlette(routes=[WebSocketRoute("/talk", talk)])
    StarlettePapyra(make).install(app)
    async with running(app) as client:
        assert await client.websocket("/talk") == [1013]


async def test_a_handler_of_litestar_takes_the_system():
    litestar = pytest.importorskip("litestar")
    from litestar import di

    from papyra_contrib.asgi.litestar import LitestarPapyra

    async def handler(papyra):
        return papyra.system_id

    named = getattr(di, "NamedDependency", None)  # since 2.23, which warns without it
    annotation = ActorSystem if named is None else named[ActorSystem]
    handler.__annotations__.update({"papyra": annotation, "return": str})
    app = litestar.Litestar(
        [litestar.get("/name", media_type="text/plain")(handler)], plugins=[LitestarPapyra(make)]
    )
    async with running(app) as client:
        assert (await client.get("/name")).body == b"web"


async def test_a_lifespan_of_lilya_may_be_a_method():
    pytest.importorskip("lilya")
    from lilya.apps import Lilya

    from papyra_contrib.asgi.lilya import LilyaPapyra

    class Own:
        @asynccontextmanager
        async def lifespan(self):
            LOG.append("own opens")
            yield
            LOG.append("own closes")

    LOG.clear()
    app = Lilya(lifespan=Own().lifespan)
    LilyaPapyra(make, setup=setup).install(app)
    async with running(app):
        assert LOG == ["made", "set up", "own opens"]
    assert LOG[3:] == ["own closes", "greeter stopped"]


async def test_an_error_in_the_middle_of_a_response_is_left_to_the_server():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise AskTimeout("too late")

    with pytest.raises(AskTimeout, match="too late"):
        await Client(ErrorResponses(app), {}).get("/")
