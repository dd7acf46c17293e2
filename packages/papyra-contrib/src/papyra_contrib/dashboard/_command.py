"""``papyra dashboard``: the dashboard of a running system, or of a record, on this machine.

Loaded by the command ``papyra`` alone, which brings click and its output with it.
"""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import webbrowser
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import click
import uvicorn

from papyra_contrib.dashboard._app import Dashboard
from papyra_contrib.dashboard._record_source import RecordSource
from papyra_contrib.dashboard._source import SourceGone
from papyra_contrib.dashboard._system_sources import SocketSource

if TYPE_CHECKING:
    from pathlib import Path

    from papyra_contrib.dashboard._source import Source

__all__ = ["dashboard"]

HOST = "127.0.0.1"
STOP_SECONDS = 1


def _build() -> click.Command:
    # Imported here: only a command may import papyra_cli.
    from papyra_cli._click.commands import ManualCommand
    from papyra_cli._click.options import read_path, reading

    @click.command(
        "dashboard",
        cls=ManualCommand,
        exit_codes={
            0: "stopped",
            2: "several systems are running, and none was named",
            3: "no running system has an admin socket, or the store is unavailable",
        },
        lines={},
        examples=[
            ("papyra dashboard --open", "the one running system, in a browser"),
            ("papyra dashboard --path papyra.ndjson", "the record in a file"),
        ],
    )
    @click.option(
        "--path",
        metavar="FILE",
        type=click.Path(),
        callback=reading(read_path),
        help="The record in this file.",
    )
    @click.option("--backend", metavar="URL", help="The record at this URL, as in sqlite:./papyra.db.")
    @click.option("--system", metavar="ID", help="The running system with this id. [default: the only one]")
    @click.option(
        "--pid", type=click.IntRange(min=1), metavar="N", help="The running system in this process."
    )
    @click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=0,
        show_default=True,
        help="The port; 0 for any free one.",
    )
    @click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
    @click.option("--allow-actions", is_flag=True, help="Let pages stop actors and compact a record.")
    def command(
        path: str | None,
        backend: str | None,
        system: str | None,
        pid: int | None,
        port: int,
        opens: bool,
        allow_actions: bool,
        **_display: object,
    ) -> None:
        """Show a running system, or its record, in a browser on this machine.

        The application has to open its admin socket: start it with PAPYRA_INSTRUMENTS=admin. The address that
        is printed has a token in it, which only you should know. Ctrl-C ends it.
        """
        token = secrets.token_urlsafe(24)
        source = _source_of(path, backend, system, pid)
        app = Dashboard(source, token=token, actions=allow_actions, payloads=True)
        with _listener(port) as listener:
            url = f"http://{HOST}:{listener.getsockname()[1]}/"
            click.echo(f"{url}?token={token}")
            sys.stdout.flush()
            if opens:
                webbrowser.open(f"{url}?token={token}")
            _serve(app, listener)

    return command


def _source_of(path: str | None, backend: str | None, system: str | None, pid: int | None) -> Source:
    from papyra_cli._errors import Failure
    from papyra_cli._live.choose import choose_live
    from papyra_cli._store.choose import choose_store

    if path is not None or backend is not None:
        if system is not None or pid is not None:
            raise click.UsageError(
                "choose a record (--path, --backend) or a running system (--system, --pid), not both"
            )
        return RecordSource(choose_store(path, backend).url, payloads=True)
    choose_live(system, pid, None)  # without a system, fail now and not on a page

    def find() -> Path:
        try:
            return choose_live(system, pid, None)
        except Failure as error:
            raise SourceGone(str(error)) from error

    return SocketSource(find)


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # before the address is printed: a browser that opens it at once waits
    except OSError as error:
        listener.close()
        raise click.ClickException(
            f"port {port} is not free: {error.strerror}. Choose another one with --port"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """A server that closes its dashboard before it raises the signal that stopped it again."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await cast("Dashboard", self.config.app).aclose()


def _serve(app: Dashboard, listener: socket.socket) -> None:
    """Serve until a signal. Requests are not logged: the first one has the token in its address."""
    logging.getLogger("papyra").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    with suppress(KeyboardInterrupt):  # uvicorn has stopped, and raises the signal again
        _Server(config).run(sockets=[listener])


dashboard: click.Command = _build()
