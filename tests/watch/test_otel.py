"""Traces, metrics and log fields for OpenTelemetry (watch.md 5)."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from opentelemetry.baggage import set_baggage
from opentelemetry.context import attach, detach, get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import papyra_contrib.otel
from papyra import Actor, ActorStopped, ActorSystem, AskTimeout, Settings
from papyra_contrib.otel import PapyraLogFilter, PapyraMeters, PapyraTracing, _names

SOURCES = Path(papyra_contrib.otel.__file__).parent


class Started(SpanProcessor):
    """Counts spans that begin, whether they end or not."""

    def __init__(self):
        self.count = 0

    def on_start(self, span, parent_context=None):
        self.count += 1


class Traces:
    def __init__(self, sampler=None):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler) if sampler else TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.started = Started()
        self.provider.add_span_processor(self.started)
        self.tracer = self.provider.get_tracer("test")

    def tracing(self, **options):
        return PapyraTracing(tracer_provider=self.provider, **options)

    @property
    def spans(self):
        return {span.name: span for span in self.exporter.get_finished_spans()}


class A(Actor):
    def __init__(self, b):
        self.b = b

    async def receive(self, message):
        await self.b.tell(message)
        return "done"


class B(A):
    pass


class C(Actor):
    def __init__(self, done):
        self.done = done

    async def receive(self, message):
        self.done.set()


async def chain(traces, **options):
    """Run request -> ask A -> tell B -> tell C, and return the spans."""
    done = anyio.Event()
    async with ActorSystem(system_id="shop", instruments=[traces.tracing(**options)]) as system:
        c = system.spawn(C, done)
        b = system.spawn(B, c)
        a = system.spawn(A, b, name="first")
        with traces.tracer.start_as_current_span("request"):
            assert await a.ask("secret") == "done"
        with anyio.fail_after(5):
            await done.wait()
    return traces.spans


def _parent(spans, name):
    parent = spans[name].parent
    return next(
        (each.name for each in spans.values() if parent and each.context.span_id == parent.span_id), None
    )


async def test_trace_shape():
    """Promise 1: request, ask A, tell B and tell C are one trace, in order."""
    spans = await chain(Traces())
    assert {name: _parent(spans, name) for name in spans} == {
        "request": None,
        "ask A": "request",
        "process A": "ask A",
        "tell B": "process A",
        "process B": "tell B",
        "tell C": "process B",
        "process C": "tell C",
    }
    assert len({span.context.trace_id for span in spans.values()}) == 1
    kinds = {name: span.kind for name, span in spans.items()}
    assert (kinds["ask A"], kinds["tell B"], kinds["process B"]) == (
        SpanKind.CLIENT,
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
    )
    assert [link.context.span_id for link in spans["process B"].links] == [spans["tell B"].context.span_id]
    about = dict(spans["process A"].attributes)
    assert about.pop("papyra.mailbox.wait") >= 0
    assert about == {
        "messaging.system": "papyra",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.template": "A",
        "papyra.actor.address": "shop:3",
        "papyra.actor.name": "first",
        "papyra.message.type": "str",
    }
    assert "secret" not in str([(dict(span.attributes), span.events) for span in spans.values()])


async def test_trace_shape_with_links():
    """Promise 1: with "link" it is three traces that are linked."""
    spans = await chain(Traces(), relation="link")
    traces = {name: span.context.trace_id for name, span in spans.items()}
    assert len(set(traces.values())) == 3
    assert traces["request"] == traces["ask A"] == traces["process A"] == traces["tell B"]
    assert traces["process B"] == traces["tell C"]
    assert spans["process B"].parent is None
    assert [link.context for link in spans["process C"].links] == [spans["tell C"].context]


async def test_process_spans_alone():
    spans = await chain(Traces(), spans="process")
    assert {name: _parent(spans, name) for name in spans} == {
        "request": None,
        "process A": "request",
        "process B": "process A",
        "process C": "process B",
    }


async def test_asks_alone():
    spans = await chain(Traces(), tells=False)
    assert set(spans) == {"request", "ask A", "process A"}


async def test_no_trace_begins_by_itself_and_roots_begin_some():
    traces = Traces()
    for tells in (True, False):
        async with ActorSystem(instruments=[traces.tracing(tells=tells)]) as system:
            ref = system.spawn(C, anyio.Event())
            await ref.ask(1)
            token = attach(set_baggage("shop", "7"))  # a context without a span
            await ref.ask(1)
            detach(token)
            assert traces.spans == {}
    async with ActorSystem(instruments=[traces.tracing(roots=3)]) as system:
        ref = system.spawn(C, anyio.Event())
        for _ in range(9):
            await ref.ask(1)
    assert [span.name for span in traces.exporter.get_finished_spans()].count("process C") == 3


async def test_an_unsampled_trace_makes_no_span():
    traces = Traces(ALWAYS_OFF)
    spans = await chain(traces)
    assert spans == {}


class Faulty(Actor):
    async def receive(self, message):
        if message == "fail":
            raise ValueError("secret")
        await anyio.sleep_forever()


@pytest.mark.parametrize("how", ["fail", "timeout", "stopped", "cancelled"])
async def test_trace_errors(how, caplog):
    """Promise 2: ERROR and `error.type` on the right spans, each ended once."""
    traces = Traces()
    expected = {"fail": ValueError, "timeout": AskTimeout, "stopped": ActorStopped}
    async with ActorSystem(instruments=[traces.tracing()], shutdown_timeout=0.1) as system:
        ref = system.spawn(Faulty)
        with traces.tracer.start_as_current_span("request"):
            if how == "cancelled":
                with anyio.move_on_after(0.05):
                    await ref.ask("sleep")
            elif how == "stopped":
                await system.stop(ref)
                with pytest.raises(ActorStopped):
                    await ref.ask("sleep")
            else:
                with pytest.raises(expected[how]):
                    await ref.ask(how, timeout=0.05)
    finished = traces.exporter.get_finished_spans()
    assert len({span.context.span_id for span in finished}) == len(finished) == traces.started.count
    assert "ended span" not in caplog.text  # the SDK's word for one that is ended twice
    asked = traces.spans["ask Faulty"]
    assert asked.status.status_code is StatusCode.ERROR
    endings = {
        "fail": "ValueError",
        "timeout": "AskTimeout",
        "stopped": "ActorStopped",
        "cancelled": "Cancelled",
    }
    assert endings[how] in asked.attributes["error.type"]
    if how == "stopped":
        assert "process Faulty" not in traces.spans
    else:
        processed = traces.spans["process Faulty"]
        assert processed.status.status_code is StatusCode.ERROR
        assert ("ValueError" if how == "fail" else "Cancelled") in processed.attributes["error.type"]
    assert traces.spans["request"].status.status_code is StatusCode.UNSET
    assert "secret" not in str([(span.attributes, span.events, span.status.description) for span in finished])


class Looking(Actor):
    async def receive(self, message):
        return get_current_span().get_span_context().is_valid, len(get_current()), id(self.context)


async def test_no_leak():
    """Promise 3: after a traced message the next actor sees no span, and no worker is given up for it."""
    traces = Traces()
    async with ActorSystem(instruments=[traces.tracing()]) as system:
        refs = [system.spawn(Looking) for _ in range(3)]
        await refs[0].ask(0)
        before = set(system._core.rt.workers)
        for _ in range(20):
            with traces.tracer.start_as_current_span("request"):
                assert (await refs[0].ask(0))[0]
            for ref in refs:
                assert (await ref.ask(0))[:2] == (False, 0)
        assert before <= set(system._core.rt.workers)


async def test_started_in_span():
    """Promise 4: a system that is started in a span parents nothing to it."""
    traces = Traces()
    with traces.tracer.start_as_current_span("start-up"):
        system = ActorSystem(instruments=[traces.tracing()])
        await system.start()
    ref = system.spawn(Looking)
    assert (await ref.ask(0))[:2] == (False, 0)
    await system.aclose()
    assert set(traces.spans) == {"start-up"}


def test_names():
    """Promise 6: names come from one module, pinned to one version of the conventions."""
    assert _names.SCHEMA_URL.endswith(_names.CONVENTIONS_VERSION)
    for path in SOURCES.glob("*.py"):
        if path.name != "_names.py":
            assert not re.search(r"""["'](messaging|error|papyra)\.""", path.read_text()), path.name


async def test_meters():
    reader = InMemoryMetricReader()
    async with ActorSystem(system_id="shop") as system:
        PapyraMeters(system, meter_provider=MeterProvider([reader]))
        ref = system.spawn(C, anyio.Event())
        for _ in range(7):
            await ref.ask(1)
        found = {
            metric.name: metric
            for resource in reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
    (sent,) = found["messaging.client.sent.messages"].data.data_points
    (consumed,) = found["messaging.client.consumed.messages"].data.data_points
    (duration,) = found["messaging.process.duration"].data.data_points
    assert sent.value == consumed.value == 7
    assert consumed.attributes["messaging.destination.template"] == "C"
    assert consumed.attributes["papyra.system"] == "shop"
    assert 1 <= duration.count <= 7


def _counted(reader, name):
    """Return a counter's values by system."""
    data = reader.get_metrics_data()
    return {
        point.attributes["papyra.system"]: point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


async def test_meters_of_several_systems(caplog):
    """A provider takes each name once: the counters of a second system must not be lost."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    for number, name in enumerate(("first", "second"), 1):
        async with ActorSystem(system_id=name, instruments=[PapyraMeters(meter_provider=provider)]) as system:
            ref = system.spawn(C, anyio.Event())
            for _ in range(number):
                await ref.ask(1)
            for counter in ("sent", "consumed"):
                assert _counted(reader, f"messaging.client.{counter}.messages")[name] == number
    async with (
        ActorSystem(system_id="left") as left,
        ActorSystem(system_id="right") as right,
    ):
        for system in (left, right):
            PapyraMeters(system, meter_provider=provider)
            await system.spawn(C, anyio.Event()).ask(1)
        found = _counted(reader, "messaging.client.consumed.messages")
        assert (found["left"], found["right"]) == (1, 1)
    assert "has been created already" not in caplog.text


async def test_the_plugin_takes_its_options_from_the_environment(monkeypatch, caplog):
    monkeypatch.setenv("PAPYRA_OTEL_TELLS", "0")
    monkeypatch.setenv("PAPYRA_OTEL_SPANS", "process")
    monkeypatch.setenv("PAPYRA_OTEL_ROOTS", "3")
    async with ActorSystem(settings=Settings(instruments=("otel",))) as system:
        tracing, meters = system.instruments
        assert (type(tracing), type(meters)) == (PapyraTracing, PapyraMeters)
        assert (tracing._tells, tracing._sends, tracing._roots) == (False, False, 3)
    for name, value, problem in (
        ("SPANS", "some", "spans must be 'all' or 'process', not 'some'"),
        ("TELLS", "yes", "PAPYRA_OTEL_TELLS must be 0 or 1, not 'yes'"),
    ):
        monkeypatch.setenv(f"PAPYRA_OTEL_{name}", value)
        async with ActorSystem(settings=Settings(instruments=("otel",))) as system:
            assert system.instruments == ()
        assert problem in caplog.text


async def test_log_records_name_the_actor():
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append((record.papyra_actor, record.papyra_type, record.papyra_system))

    logger, handler = logging.getLogger("shop"), Handler()
    handler.addFilter(PapyraLogFilter())
    logger.addHandler(handler)

    class Talking(Actor):
        async def receive(self, message):
            logger.warning("here")

    async with ActorSystem(system_id="shop") as system:
        await system.spawn(Talking).ask(1)
        logger.warning("outside")
    logger.removeHandler(handler)
    assert records == [("shop:1", "Talking", "shop"), ("", "", "")]


def test_the_log_filter_needs_no_opentelemetry():
    code = "import sys; sys.modules['opentelemetry'] = None; from papyra_contrib.otel import PapyraLogFilter"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Echo(Actor):
    async def receive(self, message):
        return message


def test_a_bad_option_is_refused():
    for wrong in ({"spans": "some"}, {"relation": "cousin"}, {"roots": -1}):
        with pytest.raises(ValueError, match="must be"):
            PapyraTracing(**wrong)
