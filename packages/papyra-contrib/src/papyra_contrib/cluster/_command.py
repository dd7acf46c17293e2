"""``papyra cluster``: look at a cluster without joining it, and create its registry.

Loaded by the command ``papyra`` alone, which brings click and its output with it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import click

from papyra.exceptions import BackendURLError, PapyraError
from papyra.settings import load_settings
from papyra_contrib.cluster._errors import ClusterUnavailable, TransportError
from papyra_contrib.cluster._registry_view import open_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from papyra_cli._output.output import Output, Table
    from papyra_contrib.cluster._registry_view import RegistryView

    F = TypeVar("F", bound=Callable[..., object])

__all__ = ["cluster"]

Rows = list[tuple[str, ...]]

_COLUMNS = {
    "node": ("name", "incarnation", "since", "host", "pid", "version"),
    "name": ("name", "address", "fence"),
    "service": ("key", "address"),
}
_HELP = {
    "node": "List the nodes that are up, the oldest first.",
    "name": "List the unique names, and which actor has each.",
    "service": "List the actors under service keys.",
}
_EXIT_CODES = {0: "done", 3: "no server answers, or the engine is not installed"}


class Unavailable(click.ClickException):
    """No server of the cluster answers: the command exits with 3."""

    exit_code = 3


def _url(given: str | None) -> str:
    url = given or load_settings().cluster
    if not url:
        raise click.UsageError(
            "no cluster: give --cluster, as in --cluster nats://127.0.0.1:4222/shop, or set PAPYRA_CLUSTER"
        )
    return url


def _run(work: Callable[[], Any]) -> None:
    try:
        anyio.run(work)
    except BackendURLError as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:  # a lease that differs from the registry's
        raise click.ClickException(str(error)) from error
    except (ClusterUnavailable, TransportError, PapyraError) as error:
        raise Unavailable(str(error)) from error


def _rows(view: RegistryView, word: str) -> Rows:
    rows: Rows = getattr(view, f"{word}s")()
    return rows


def _records(word: str, rows: Rows) -> list[dict[str, str]]:
    return [dict(zip(_COLUMNS[word], row, strict=True)) for row in rows]


def _table(word: str, rows: Rows) -> Table:
    from papyra_cli._escape import printable
    from papyra_cli._output.output import Table

    table = Table(word, f"{word}s".capitalize(), _COLUMNS[word])
    table.rows.extend([printable(cell) for cell in row] for row in rows)
    return table


async def _show(word: str, out: Output, url: str) -> None:
    async with open_view(url) as view:
        await view.refresh()
        rows = _rows(view, word)
    total = f"{len(rows)} {word}{'' if len(rows) == 1 else 's'}"
    out.show(_records(word, rows), _records(word, rows), [_table(word, rows)], total)


async def _follow(word: str, out: Output, url: str) -> None:
    shown: Rows = []
    async with open_view(url) as view:
        while not out.closed:
            await view.refresh()
            rows = _rows(view, word)
            fresh = [row for row in rows if row not in shown]
            if fresh:
                out.stream(_table(word, fresh), _records(word, fresh))
            shown = rows
            with anyio.move_on_after(1.0):
                await view.changed.wait()


def _cluster_option() -> Callable[[F], F]:
    return click.option(
        "--cluster", "url", metavar="URL", help="The cluster. [default: PAPYRA_CLUSTER, or the settings]"
    )


def _listing(word: str) -> click.Command:
    from papyra_cli._click.commands import ManualCommand
    from papyra_cli._click.options import output_command

    @click.command(
        f"{word}s",
        cls=ManualCommand,
        help=_HELP[word],
        lines={word: _COLUMNS[word]},
        exit_codes=_EXIT_CODES,
        examples=[
            (f"papyra cluster {word}s --cluster nats://127.0.0.1:4222/shop", f"the {word}s of this cluster")
        ],
    )
    @_cluster_option()
    @click.option("--follow", is_flag=True, help="Keep running, and print new rows as they appear.")
    @output_command
    def command(out: Output, url: str | None, follow: bool) -> None:
        _run(partial(_follow if follow else _show, word, out, _url(url)))

    return command


def _init() -> click.Command:
    from papyra_cli._click.commands import ManualCommand
    from papyra_cli._click.options import output_command
    from papyra_cli._output.output import Table

    @click.command(
        "init",
        cls=ManualCommand,
        exit_codes=_EXIT_CODES,
        lines={"cluster": ("state",)},
        examples=[
            (
                "papyra cluster init --cluster 'nats://127.0.0.1:4222/shop?replicas=3'",
                "once, as an administrator",
            )
        ],
    )
    @_cluster_option()
    @output_command
    def init(out: Output, url: str | None) -> None:
        """Create the registry with the replicas and the lease of the URL, or check an existing one."""

        async def work() -> None:
            async with open_view(_url(url)):
                pass

        _run(work)
        table = Table("cluster", "Cluster", ("state",))
        table.rows.append(("ready",))
        out.show({"state": "ready"}, [{"state": "ready"}], [table], "the registry is ready")

    return init


def _group() -> click.Group:
    from papyra_cli._click.commands import HelpfulGroup

    @click.group("cluster", cls=HelpfulGroup)
    def group() -> None:
        """Look at a cluster without joining it, and create its registry."""

    for word in _COLUMNS:
        group.add_command(_listing(word))
    group.add_command(_init())
    return group


cluster: click.Group = _group()
