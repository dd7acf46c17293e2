"""The public names are these, on purpose: a name added or lost by accident fails here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

EXPORTED = {
    "papyra": """
        Actor ActorAddress ActorContext ActorInfo ActorProxy ActorRef ActorStopped ActorSystem ActorTerminated
        AskDeadlock AskTimeout Askable AuditReport Backoff DeadLetter FailureInfo GroupPolicy MailboxClosed
        MailboxFull PapyraError Portal Receives ReceivesAny Reject Reply ReplyDropped Request RestartStrategy Settings
        StashOverflow Strategy SupervisionPolicy SupervisorDecision SystemHooks UnhandledMessage __version__
        ask_all current_actor settings
    """,
    "papyra.actor": "Actor",
    "papyra.address": "ActorAddress",
    "papyra.audit": "ActorInfo AuditReport MailboxDepth TreeRow",
    "papyra.context": "ActorContext current_actor",
    "papyra.deadletters": "DeadLetterPolicy",
    "papyra.events": "ActorCrashed ActorEvent ActorRestarted ActorStarted ActorStopped NodeDown NodeUp",
    "papyra.exceptions": """
        ActorNameTaken ActorStopped AskDeadlock AskTimeout BackendURLError MailboxClosed MailboxFull NotClustered
        PapyraError PartialWriteError PersistenceError PluginError Reject ReplyDropped StashOverflow StoreFull SystemNotRunning
        UnhandledMessage UnknownBackend UnknownTransport
    """,
    "papyra.hooks": "FailureInfo HOOK_NAMES SystemHooks",
    "papyra.hookspecs": "hookimpl hookspec",
    "papyra.instruments": "Instrument Target",
    "papyra.interrupts": "interrupt_actor",
    "papyra.messages": "ActorTerminated DeadLetter",
    "papyra.persistence": """
        BatchBackend InMemoryPersistence Page PersistenceBackend Query RetentionPolicy backend_capabilities open_backend
        safe_metrics_snapshot
    """,
    "papyra.persistence.blocking": "CallbackFailed Interruptible Part Work WorkCancelled run_blocking",
    "papyra.persistence.files": """
        SAFE_FLAGS create_file create_folder drop_lock failed_write file_kind identity in_forked_child make_folder match_mode match_owner
        open_regular quarantine_names sync_file sync_folder take_lock try_locked write_all
    """,
    "papyra.persistence.json": "JsonFilePersistence RotatingFilePersistence",
    "papyra.persistence.redis": "RedisStreamsConfig RedisStreamsPersistence",
    "papyra.persistence.models": """
        CompactionReport JSONValue PersistedAudit PersistedDeadLetter PersistedEvent PersistedRecord
        PersistenceAnomaly PersistenceAnomalyType PersistenceRecoveryConfig PersistenceRecoveryMode
        PersistenceRecoveryReport PersistenceScanReport
    """,
    "papyra.persistence.processes": "how_run_ended is_running process_started",
    "papyra.persistence.startup": """
        PersistenceStartupConfig PersistenceStartupMode StartupCheck reach_store run_startup_check
    """,
    "papyra.persistence.threaded": "ThreadedBackend",
    "papyra.portal": "Portal",
    "papyra.proxy": "ActorProxy",
    "papyra.ref": "ActorRef",
    "papyra.reply": "Reply",
    "papyra.request": "Request ask_all",
    "papyra.settings": "FoundSetting Settings find_settings load_settings settings",
    "papyra.statistics": "BusyActor KindStatistics SystemStatistics",
    "papyra.supervision": "Backoff GroupPolicy RestartStrategy Strategy SupervisionPolicy SupervisorDecision",
    "papyra.system": "ActorSystem DeadLetters",
    "papyra.testing": """
        BackendConformance EventRecorder ManualClock Probe SimulationDeadlock Wire explore full_disk register_backend
        run_seeded
    """,
    "papyra.typing": "Askable AskableBy Receives ReceivesAny",
    "papyra.units": "count duration one_of size",
    "papyra_cli": "ExitCode main",
    "papyra_contrib.cluster": """
        ActorNameTaken Cluster ClusterUnavailable Conflict Ended Entry Fence Host LateRef Lease Listing Member MemoryTransport
        MessageRejected NameLost NodeGone NodeId NodeNameTaken NodeUnreachable NotClustered RemoteFailure RemoteRef
        Reset ServiceKey Synced Transport TransportError UnknownTransport message
    """,
    "papyra_contrib.cluster.codec": "Codec MsgspecCodec References message",
    "papyra_contrib.cluster.nats": "NatsTransport",
    "papyra_contrib.cluster.testing": "MemoryNetwork TransportConformance through_codec",
    "papyra_contrib.receptionist": "Listing LocalReceptionist Receptionist ServiceKey",
    "papyra_contrib.asgi": """
        ASGIPapyra Check PapyraASGIConfig compose healthz livez metrics papyra_lifecycle readyz system_of
    """,
    "papyra_contrib.asgi.fastapi": "ActorOf FastAPIPapyra System",
    "papyra_contrib.asgi.litestar": "LitestarPapyra",
    "papyra_contrib.asgi.ravyn": "RavynPapyra",
    "papyra_contrib.asgi.starlette": "StarlettePapyra",
    "papyra_contrib.dashboard": """
        Dashboard LiveSource RecordSource SocketSource Source SourceGone SourceRefused
        """,
    "papyra_contrib.otel": "PapyraLogFilter PapyraMeters PapyraTracing",
    "papyra_contrib.prometheus": "PapyraCollector PapyraTimings PrometheusInstrument metrics_app",
    "papyra_contrib.redis": "Delivery PendingDelivery RedisPersistence RedisStreamsConfig RedisStreamsPersistence",
    "papyra_contrib.sqlite": "SQLitePersistence",
    "papyra_json": "JsonFilePersistence RotatingFilePersistence",
}

# Parameters and their defaults, as users of the published package know them.
SIGNATURES = {
    "papyra.ActorSystem": """
        (*, system_id='local', on_dead_letter=None, hooks=None, time_fn=None, persistence=None,
        persistence_startup=None, persistence_recovery=None, shutdown_timeout=10.0, settings=None, instruments=(), cluster=None,
        dead_letter_policy=None)
    """,
    "papyra.ActorSystem.start": "(self)",
    "papyra.ActorSystem.aclose": "(self, *, deadline=None)",
    "papyra.ActorSystem.spawn": """
        (self, factory, *args, name=None, mailbox_capacity=1024, policy=None, parent=None, on_full='wait', **unknown)
    """,
    "papyra.ActorSystem.stop": "(self, ref, *, timeout=None)",
    "papyra.ActorSystem.stop_all": "(self)",
    "papyra.ActorSystem.ref_for": "(self, address)",
    "papyra.ActorSystem.ref_for_name": "(self, name)",
    "papyra.ActorSystem.refs": "(self, alive_only=True)",
    "papyra.ActorSystem.refs_by_type": "(self, type_or_name, alive_only=True)",
    "papyra.ActorSystem.list_names": "(self)",
    "papyra.ActorSystem.list_actors": "(self, alive_only=False, *, by=None, limit=None, offset=0, matching=None)",
    "papyra.ActorSystem.actor_info": "(self, target)",
    "papyra.ActorSystem.audit": "(self, include_actor_details=True)",
    "papyra.ActorSystem.control_panel": "(self)",
    "papyra.ActorSystem.broadcast": "(self, message, actor_type=None)",
    "papyra.ActorSystem.events": "(self, limit=None, actor=None)",
    "papyra.ActorSystem.wait_for_event": "(self, predicate_or_type, *, timeout=1.0, start_index=0)",
    "papyra.ActorSystem.compact": "(self)",
    "papyra.ActorSystem.flush": "(self)",
    "papyra.ActorSystem.now": "(self)",
    "papyra.ActorContext.spawn_child": """
        (self, factory, *args, name=None, mailbox_capacity=1024, policy=None, on_full='wait', **unknown)
    """,
    "papyra.ActorContext.stop_self": "(self)",
    "papyra.ActorContext.watch": "(self, ref)",
    "papyra.ActorContext.unwatch": "(self, ref)",
    "papyra.ActorRef.tell": "(self, message)",
    "papyra.ActorRef.ask": "(self, message, *, timeout=None)",
    "papyra.ActorRef.is_alive": "(self)",
    "papyra.ActorRef.proxy": "(self)",
    "papyra.ActorAddress": "(system, actor_id)",
    "papyra.SupervisionPolicy": "(strategy=<Strategy.STOP: 'stop'>, max_restarts=3, within_seconds=60.0, backoff=None)",
    "papyra.GroupPolicy": """
        (strategy=<RestartStrategy.ONE_FOR_ALL: 'one_for_all'>, max_restarts=3, within_seconds=60.0, backoff=None,
        grace=5.0)
    """,
    "papyra.ActorRef.tell_nowait": "(self, message)",
    "papyra.ActorRef.pending": "(self)",
    "papyra.ActorRef.request": "(self, message, *, timeout=None)",
    "papyra.ActorRef.stop": "(self, *, timeout=None)",
    "papyra.ActorSystem.portal": "(self, *, window=1024)",
    "papyra.ActorContext.reply_later": "(self)",
    "papyra.ActorContext.forward": "(self, ref, message)",
    "papyra.ActorContext.pipe_to_self": "(self, work, then, *, catch=None)",
    "papyra.ActorContext.start_soon": "(self, async_fn, *args, name=None)",
    "papyra.ActorContext.run_blocking": "(self, fn, *args, abandon_on_cancel=False)",
    "papyra.ask_all": "(*requests, return_exceptions=False)",
    "papyra.Portal.ask": "(self, ref, message, *, timeout=None)",
    "papyra.Backoff": "(initial, maximum, factor=2.0, jitter=0.1)",
    "papyra.persistence.RetentionPolicy": "(max_records=None, max_age_seconds=None, max_total_bytes=None)",
    "papyra.persistence.PersistenceBackend.list_events": """
        (self, *, limit=None, since=None, until=None, event_type=None, actor=None)
    """,
    "papyra.persistence.PersistenceBackend.compact": "(self, *, dry_run=False, progress=None)",
    "papyra_json.JsonFilePersistence": "(path, retention_policy=None, *, durability='os', fsync_interval=1.0)",
    "papyra_json.RotatingFilePersistence": """
        (path, *, max_bytes=50000000, max_files=5, retention_policy=None, durability='os', fsync_interval=1.0, compress=None)
    """,
}


def _find(path: str) -> Any:
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name)
        return found
    raise AssertionError(path)


def _without_annotations(signature: inspect.Signature) -> str:
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize("module", EXPORTED)
def test_a_module_exports_what_it_means_to(module):
    loaded = importlib.import_module(module)
    assert sorted(loaded.__all__) == sorted(EXPORTED[module].split())
    for name in loaded.__all__:
        assert hasattr(loaded, name), name


@pytest.mark.parametrize("module", EXPORTED)
def test_what_is_exported_says_what_it_is(module):
    loaded = importlib.import_module(module)
    exported = [getattr(loaded, name) for name in loaded.__all__]
    assert loaded.__doc__
    for one in exported:
        if inspect.isclass(one) or inspect.isfunction(one):
            assert one.__doc__, one


@pytest.mark.parametrize("path", SIGNATURES)
def test_parameters_and_defaults_stay(path):
    signature = inspect.signature(_find(path))
    assert _without_annotations(signature) == " ".join(SIGNATURES[path].split())


def test_star_import_gives_the_exported_names():
    names: dict[str, object] = {}
    exec("from papyra import *", names)
    assert set(EXPORTED["papyra"].split()) <= set(names)


def test_a_shell_completes_all_exported_names():
    assert set(EXPORTED["papyra"].split()) <= set(dir(importlib.import_module("papyra")))


def test_the_published_package_in_the_same_folder_is_reported(tmp_path):
    look = importlib.import_module("papyra")._warn_of_published_package
    look(str(tmp_path))
    look(str(tmp_path / "an archive"))
    (tmp_path / "papyra-0.3.1.dist-info").mkdir()
    with pytest.warns(RuntimeWarning, match=r"papyra 0\.3 and papyra-core .* are both installed"):
        look(str(tmp_path))
