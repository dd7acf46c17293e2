"""The registry: a JetStream stream in the form of a key-value bucket, used through plain requests.

The client's own class for buckets is not used: its watch was silent after a restart of the server, and its
``update`` takes no TTL.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import nats.errors

from papyra_contrib.cluster._errors import ClusterUnavailable, Conflict
from papyra_contrib.cluster._transport import Ended, Entry, no_answer
from papyra_contrib.cluster.nats._client import NATS_ERRORS
from papyra_contrib.cluster.nats._lease_clock import lease_clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra_contrib.cluster.nats._client import Client
    from papyra_contrib.cluster.nats._url import NatsURL

__all__ = ["Bucket"]

REQUEST_SECONDS: Final = 1.0
END_MARKER_SECONDS: Final = 60
EXPIRY_SLACK_SECONDS: Final = 0.5
OLDEST_SERVER: Final = (2, 11)
DEFAULT_LEASE_SECONDS: Final = 3
DEFAULT_LEASE_SECONDS_WITH_REPLICAS: Final = 12
MIN_LEASE_SECONDS_WITH_REPLICAS: Final = 10

_WRONG_SEQUENCE = 10071
_NO_STREAM = 10059
_NO_MESSAGE = 10037
_NO_JETSTREAM = (10039, 10076)
_NAME_IN_USE = 10058


class ApiError(Exception):
    """The server refused a request; ``code`` is its ``err_code``."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Bucket:
    """Reads and writes keys. Every request ends within a second, or is a `TransportError`."""

    def __init__(self, client: Client, cluster: str) -> None:
        self._client = client
        self.stream = f"KV_papyra_{cluster}"
        self.prefix = f"$KV.papyra_{cluster}."
        self._cluster = cluster
        self.lease_seconds = DEFAULT_LEASE_SECONDS
        self.epoch = 0
        self._clock_offset: float | None = None

    # -- the server's clock

    def note_server_time(self, info: Mapping[str, Any]) -> None:
        """Compare the clocks: ``info`` is a fresh answer about the stream."""
        if "ts" in info:
            self._clock_offset = _timestamp(str(info["ts"])) - lease_clock()

    def is_expired(self, key: str, written: str) -> bool:
        """Whether a lease has ended by the server's own clock, although the server still shows it.

        After a kill -9, the server shows keys again that had expired before.
        """
        if self._clock_offset is None or not key.startswith("n.") or not written:
            return False
        age = lease_clock() + self._clock_offset - _timestamp(written)
        return age > self.lease_seconds + EXPIRY_SLACK_SECONDS

    # -- the stream

    async def prepare(self, url: NatsURL, lease: int | None) -> None:
        """Find the stream, or create it. Raise if it has another configuration or another lease."""
        self._check_server()
        wanted = _lease(lease, url.replicas)
        try:
            info = await self._api(f"STREAM.INFO.{self.stream}", {})
        except ApiError as error:
            if error.code != _NO_STREAM:
                raise self._explained(error) from error
            info = await self._create(url.replicas, wanted)
        self._read(info, lease)

    def _check_server(self) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise ClusterUnavailable(
                f"the NATS server has version {version.major}.{version.minor}, but 2.11 or newer is needed; update it"
            )

    async def _create(self, replicas: int, lease: int) -> dict[str, Any]:
        try:
            return await self._api(f"STREAM.CREATE.{self.stream}", self._config(replicas, lease))
        except ApiError as error:
            if error.code != _NAME_IN_USE:
                raise self._explained(error) from error
        return await self._api(f"STREAM.INFO.{self.stream}", {})  # another node was faster

    def _config(self, replicas: int, lease: int) -> dict[str, Any]:
        return {
            "name": self.stream,
            "subjects": [f"{self.prefix}>"],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "max_msgs_per_subject": 1,
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "deny_delete": True,
            "deny_purge": True,
            "republish": {"src": f"{self.prefix}>", "dest": f"papyra.{self._cluster}.reg.>"},
            "metadata": {"papyra.lease": str(lease)},
        }

    def _read(self, info: dict[str, Any], lease: int | None) -> None:
        config = cast("dict[str, Any]", info["config"])
        metadata = cast("dict[str, str]", config.get("metadata") or {})
        text = metadata.get("papyra.lease", "")
        if not text.isdecimal():
            raise ClusterUnavailable(
                f"the stream {self.stream} was not made for a cluster: it has no papyra.lease in its metadata; "
                "remove it, or choose another name for the cluster"
            )
        self.lease_seconds = int(text)
        if lease is not None and lease != self.lease_seconds:
            raise ValueError(
                f"lease is {lease} s here, and {self.lease_seconds} s in the cluster {self._cluster!r}; give the same, "
                "or none"
            )
        expected = self._config(int(config.get("num_replicas", 1)), self.lease_seconds)
        for name in (
            "subjects",
            "max_msgs_per_subject",
            "allow_direct",
            "allow_msg_ttl",
            "deny_delete",
            "deny_purge",
        ):
            if config.get(name) != expected[name]:
                raise ClusterUnavailable(
                    f"the stream {self.stream} has {name}={config.get(name)!r}, but {expected[name]!r} is needed; "
                    "delete it, and create it with `papyra cluster init`"
                )
        if config.get("allow_rollup_hdrs"):
            raise ClusterUnavailable(
                f"the stream {self.stream} allows roll-ups, with which any member could wipe the registry; "
                "delete it, and create it with `papyra cluster init`"
            )
        self.epoch = int(_timestamp(str(info["created"])) * 1000)
        self.note_server_time(info)

    def _explained(self, error: ApiError) -> Exception:
        if error.code in _NO_JETSTREAM:
            return ClusterUnavailable(
                "the NATS server has no JetStream, which keeps the registry; start it with -js"
            )
        return ClusterUnavailable(f"the NATS server refused the registry {self.stream}: {error}")

    async def _api(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            reply = await self._client.request(
                f"$JS.API.{subject}", json.dumps(request).encode() if request else b"", REQUEST_SECONDS * 2
            )
        except nats.errors.NoRespondersError as error:
            raise ClusterUnavailable(
                "the NATS server has no JetStream, which keeps the registry; start it with -js"
            ) from error
        return _checked(reply.data)

    # -- keys

    async def put(self, key: str, value: bytes, expect: int, ttl: int | None = None) -> int:
        """Compare and set; an ended key counts as absent."""
        headers = {"Nats-TTL": str(ttl)} if ttl is not None else {}
        try:
            return await self._write(key, value, expect, headers)
        except Conflict:
            if expect:
                raise
            ended = await self._read_key(key)
            if not isinstance(ended, Ended):
                raise
            return await self._write(key, value, ended.revision, headers)

    async def end(self, key: str, expect: int) -> None:
        """Compare, and set an end marker, which expires."""
        headers = {"KV-Operation": "DEL", "Nats-TTL": str(END_MARKER_SECONDS)}
        await self._write(key, b"", expect, headers)

    async def _write(self, key: str, value: bytes, expect: int, headers: dict[str, str]) -> int:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expect), **headers}
        try:
            reply = await self._client.request(self.prefix + key, value, REQUEST_SECONDS, headers=headers)
            return int(_checked(reply.data)["seq"])
        except ApiError as error:
            if error.code == _WRONG_SEQUENCE:
                raise Conflict(f"{key!r} is not at revision {expect}") from None
            raise no_answer(f"writing ({error})", key) from error
        except NATS_ERRORS as error:
            raise no_answer("writing", key) from error

    async def get(self, key: str) -> Entry | None:
        """Read a key from the leader."""
        stored = await self._read_key(key)
        return stored if isinstance(stored, Entry) else None

    async def _read_key(self, key: str) -> Entry | Ended | None:
        request = json.dumps({"last_by_subj": self.prefix + key}).encode()
        try:
            reply = await self._client.request(
                f"$JS.API.STREAM.MSG.GET.{self.stream}", request, REQUEST_SECONDS
            )
            message = cast("dict[str, Any]", _checked(reply.data)["message"])
        except ApiError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise no_answer(f"reading ({error})", key) from error
        except NATS_ERRORS as error:
            raise no_answer("reading", key) from error
        revision = int(message["seq"])
        headers = base64.b64decode(message.get("hdrs", ""))
        if b"KV-Operation:" in headers:
            return Ended(key, "left", revision)
        if self.is_expired(key, str(message.get("time", ""))):
            return Ended(key, "expired", revision)
        return Entry(key, base64.b64decode(message.get("data", "")), revision)


def _checked(data: bytes) -> dict[str, Any]:
    reply = cast("dict[str, Any]", json.loads(data))
    error = cast("dict[str, Any] | None", reply.get("error"))
    if error:
        raise ApiError(int(error.get("err_code", 0)), str(error.get("description", "")))
    return reply


def _lease(wanted: int | None, replicas: int) -> int:
    if replicas > 1 and wanted is not None and wanted < MIN_LEASE_SECONDS_WITH_REPLICAS:
        raise ValueError(
            f"lease is {wanted} s, but with {replicas} replicas at least {MIN_LEASE_SECONDS_WITH_REPLICAS} s are "
            "needed: choosing a new leader takes up to 7 s, in which no lease is renewed"
        )
    return wanted or (DEFAULT_LEASE_SECONDS if replicas == 1 else DEFAULT_LEASE_SECONDS_WITH_REPLICAS)


def _timestamp(text: str) -> float:
    """Read a time of the server, in Unix seconds. It has nanoseconds, which Python does not parse."""
    head, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{rest or 0}")
