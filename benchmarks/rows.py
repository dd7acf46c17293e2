"""The rows: measurements, their scales, and the goals of Papyra (see the performance page of the docs)."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ROWS", "Goal", "Row"]


@dataclass(frozen=True)
class Goal:
    """``figure`` must be at least (or at most) ``value``, or ``value`` times what ``against`` measured in the
    same run.

    ``who`` is the contestant that it is asked of.
    """

    figure: str
    value: float
    against: str | None = None
    at_least: bool = True
    who: str = "papyra"

    def judge(self, measured: dict[str, dict[str, float]]) -> tuple[float, bool]:
        """Return what was reached, and whether that is enough."""
        value = measured[self.who][self.figure]
        if self.against is not None:
            value /= measured[self.against][self.figure]
        return value, value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        whose = "" if self.who == "papyra" else f"{self.who} "
        return f"{whose}{self.figure} {sign} {self.value:.3g}" + (
            f" x {self.against}" if self.against else ""
        )


@dataclass(frozen=True)
class Row:
    """One benchmark: its contestants, and the operations of each (small contestants get fewer)."""

    name: str
    what: str
    scale: dict[str, int]
    goals: tuple[Goal, ...] = ()
    script: str = "api"
    unit: str = field(default="per_second")


ON_TRIO = Goal("per_second", 1 / 1.5, "papyra", who="papyra-trio")


def _rate(ours: int, published: int = 0, floor: int = 0, pykka: int = 0) -> dict[str, int]:
    scale = {"papyra": ours, "papyra-trio": ours, "published": published, "floor": floor, "pykka": pykka}
    return {who: n for who, n in scale.items() if n}


ROWS = {
    row.name: row
    for row in (
        Row(
            "tell",
            "messages a second, one sender, one actor",
            _rate(1_000_000, 100_000, 1_000_000, 100_000),
            (Goal("per_second", 15, "published"), Goal("per_second", 0.5, "floor"), ON_TRIO),
        ),
        Row(
            "ask",
            "asks a second, one after the other",
            _rate(50_000, 20_000, 50_000, 20_000),
            (Goal("per_second", 4, "published"), Goal("per_second", 0.6, "floor"), ON_TRIO),
        ),
        Row(
            "pingpong",
            "round trips a second of two actors",
            _rate(300_000, 20_000, 0, 20_000),
            (Goal("per_second", 25, "published"), ON_TRIO),
        ),
        Row(
            "self_ref",
            "round trips a second of two actors that send their own reference",
            _rate(300_000, 20_000),
            (Goal("per_second", 25, "published"), ON_TRIO),
        ),
        Row(
            "ask_all",
            "us of each of 20 asks at once from an actor, and how much faster than in a task group",
            {"papyra": 500, "papyra-trio": 500},
            (Goal("times_faster", 3),),
            unit="us_each",
        ),
        Row(
            "pool",
            "us of an ask through a pool of 8, and how much of a direct one that is",
            {"papyra": 20_000, "papyra-trio": 20_000},
            (Goal("times_direct", 1.1, at_least=False),),
            unit="us",
        ),
        Row(
            "timers",
            "us to start and cancel a timer at a million live ones, and the longest call, ms",
            {"papyra": 1_000_000},
            (Goal("us", 3, at_least=False), Goal("worst_ms", 5, at_least=False)),
            unit="us",
        ),
        Row(
            "portal",
            "us of a tell from one of 4 threads, the event loop idle or busy",
            {"papyra": 40_000, "papyra-trio": 40_000},
            (Goal("idle_us", 8, at_least=False), Goal("busy_us", 8, at_least=False)),
            unit="idle_us",
        ),
        Row("fanin", "messages a second, 100 senders to one actor", _rate(1_000_000, 50_000), (ON_TRIO,)),
        Row(
            "fanout",
            "messages a second, one sender to 10,000 actors",
            _rate(1_000_000, 50_000),
            (Goal("per_second", 15, "published"), ON_TRIO),
        ),
        Row(
            "spawn",
            "actors a second, until all ran on_start",
            _rate(100_000, 100_000, 100_000),
            (Goal("per_second", 30, "published"), ON_TRIO),
        ),
        Row(
            "memory",
            "bytes of an idle actor that has had a message",
            {"papyra": 100_000, "papyra-trio": 100_000, "published": 5_000},
            (Goal("bytes", 1200, at_least=False),),
            unit="bytes",
        ),
        Row(
            "leak",
            "bytes that a stopped actor leaves behind",
            {"papyra": 50_000, "papyra-trio": 50_000},
            (Goal("bytes", 50, at_least=False),),
            unit="bytes",
        ),
        Row(
            "million",
            "a million living actors, each answers one ask",
            {"papyra": 1_000_000, "papyra-trio": 1_000_000},
            (Goal("resident_gb", 1.5, at_least=False), Goal("answered", 1.0)),
            unit="resident_gb",
        ),
        Row(
            "fairness",
            "p99 of an ask to a quiet actor while another is flooded, ms",
            {"papyra": 1000, "papyra-trio": 1000},
            (Goal("p99_ms", 3, at_least=False),),
            unit="p99_ms",
        ),
        Row(
            "instruments",
            "share of their speed that tell, ping-pong and ask keep with Prometheus timings on",
            {"papyra": 200_000, "papyra-trio": 200_000},
            (Goal("kept", 0.97),),
            script="instrumented",
            unit="kept",
        ),
        Row(
            "scrape",
            "ms of a scrape of 10,000 actors of 20 types, of 100,000, and of the event loop at a time in metrics_app",
            {"papyra": 10_000, "papyra-trio": 10_000},
            (
                Goal("ms", 10, at_least=False),
                Goal("large_ms", 40, at_least=False),
                Goal("loop_ms", 2, at_least=False),
                Goal("loop_ms", 2, at_least=False, who="papyra-trio"),
            ),
            script="instrumented",
            unit="ms",
        ),
        Row(
            "list_actors",
            "ms to list 10,000 actors, 1,000 of them busy",
            {"papyra": 10_000, "papyra-trio": 10_000},
            (Goal("ms", 50, at_least=False), Goal("ms", 50, at_least=False, who="papyra-trio")),
            script="instrumented",
            unit="ms",
        ),
        Row(
            "traces",
            "share of their speed that tell and ask keep with tracing on, outside of a trace",
            {"papyra": 100_000, "papyra-trio": 100_000},
            (Goal("tell", 0.55), Goal("ask", 0.92), Goal("tell_untraced", 0.97)),
            script="instrumented",
            unit="tell",
        ),
        Row(
            "top",
            "ms of a refresh of papyra top for 12,000 actors, and of the application's event loop in it",
            {"papyra": 12_000, "papyra-trio": 12_000},
            (Goal("ms", 50, at_least=False), Goal("loop_ms", 10, at_least=False)),
            script="instrumented",
            unit="ms",
        ),
        Row(
            "admin_hostile",
            "share of its speed that tell keeps under 100 hostile clients of the admin socket, and ms that "
            "another client waits for an answer",
            {"papyra": 1_000_000, "papyra-trio": 1_000_000},
            (
                Goal("kept", 0.97),
                Goal("worst_ms", 100, at_least=False),
                Goal("kept", 0.97, who="papyra-trio"),
                Goal("worst_ms", 100, at_least=False, who="papyra-trio"),
            ),
            script="instrumented",
            unit="kept",
        ),
        Row(
            "record",
            "facts a second from a system into a JSON file, until aclose() returned",
            {"papyra": 200_000, "published": 200_000, "floor": 200_000},
            (Goal("per_second", 100, "published"), Goal("per_second", 0.4, "floor")),
            script="files",
        ),
        Row(
            "record_sqlite",
            "the same into SQLite; the floor inserts the rows into a table without an index",
            {"papyra": 200_000, "papyra-trio": 200_000, "floor": 200_000},
            script="stores",
        ),
        Row(
            "record_redis",
            "the same into Redis; the floor sends the same entries in batches",
            {"papyra": 200_000, "papyra-trio": 200_000, "floor": 200_000},
            script="stores",
        ),
        Row(
            "append",
            "facts a second, appended to a JSON file one by one, each awaited",
            {"papyra": 20_000, "papyra-trio": 20_000, "published": 5_000, "floor": 20_000},
            (Goal("per_second", 3.5, "published"), Goal("per_second", 0.85, "floor")),
            script="files",
        ),
        Row(
            "postgres",
            "facts a second into PostgreSQL in batches of 5,000; the floor is a bare COPY into a table without an index",
            {"papyra": 200_000, "papyra-trio": 200_000, "floor": 200_000},
            (Goal("per_second", 0.6, "floor"),),
            script="postgres",
        ),
        Row(
            "postgres_care",
            "1 M facts in PostgreSQL: ms to list the newest 10, seconds to scan all and to compact to half; "
            "the floor reads all rows, and deletes half of a table without an index",
            {"papyra": 1_000_000, "floor": 1_000_000},
            (Goal("newest_ms", 20, at_least=False),),
            script="postgres",
            unit="scan_s",
        ),
        Row(
            "scan",
            "seconds to scan 1 M records",
            {"papyra": 1_000_000, "floor": 1_000_000},
            (Goal("seconds", 1.5, "floor", at_least=False), Goal("resident_mb", 64, at_least=False)),
            script="files",
            unit="seconds",
        ),
        Row(
            "tail",
            "ms to list the newest 10 of 1 M records",
            {"papyra": 1_000_000},
            (Goal("ms", 20, at_least=False),),
            script="files",
            unit="ms",
        ),
        Row(
            "compact",
            "seconds to compact 1 M records to half",
            {"papyra": 1_000_000, "floor": 1_000_000},
            (Goal("seconds", 2, at_least=False), Goal("resident_mb", 64, at_least=False)),
            script="files",
            unit="seconds",
        ),
        Row(
            "legacy",
            "seconds to compact 1 M records without seq and crc to half; the floor scans them",
            {"papyra": 1_000_000, "floor": 1_000_000},
            (Goal("seconds", 2.5, "floor", at_least=False), Goal("resident_mb", 64, at_least=False)),
            script="files",
            unit="seconds",
        ),
        Row(
            "import",
            "ms to import papyra; the floor imports anyio",
            {"papyra": 1, "floor": 1},
            (Goal("ms", 1.6, "floor", at_least=False),),
            script="process",
            unit="ms",
        ),
        Row(
            "cluster_ask",
            "asks to another node over NATS, in turns with bare requests of nats-py",
            {"papyra": 200, "papyra-trio": 200},
            (
                Goal("p50_ratio", 1.6, at_least=False),
                Goal("p99_ratio", 2.5, at_least=False),
                Goal("p50_ratio", 3.2, at_least=False, who="papyra-trio"),
                Goal("p99_ratio", 5, at_least=False, who="papyra-trio"),
            ),
            script="cluster",
            unit="p50_ratio",
        ),
        Row(
            "cluster_tell",
            "tells a second to another node over NATS, against publish to receive of nats-py",
            {"papyra": 20_000, "papyra-trio": 20_000},
            (
                Goal("ratio", 1.0),
                Goal("lost", 0, at_least=False),
                Goal("ratio", 0.6, who="papyra-trio"),
            ),
            script="cluster",
        ),
        Row(
            "help",
            "ms of `papyra --help`; the floor is a bare click command's",
            {"papyra": 1, "floor": 1},
            (Goal("ms", 120, at_least=False),),
            script="process",
            unit="ms",
        ),
    )
}
