"""R7: with the policies `type` and `none`, no byte of a message is in a file of a server or of a set."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..runtime.test_dead_letters import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable

SET = "rotating:./facts.ndjson?max_bytes=2000&max_files=50&compress=gzip"


@pytest.fixture
def store(request, own_redis_server, tmp_path) -> tuple[str, Callable[[], list[Path]]]:
    """Return the URL of a store, and a function that lists the folders in which its server keeps files."""
    if request.param == "redis":
        server = own_redis_server("--appendonly", "yes", "--save", "3600 1")
        return f"redis:{server.socket}", lambda: [server.socket.parent]
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        table = request.getfixturevalue("table")

        def folders() -> list[Path]:
            with server.connect() as connection:
                connection.execute("CHECKPOINT")
            return [server.folder]

        return server.url(table=table), folders
    return SET, list


def holds(folders: list[Path], word: bytes) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if word in path.read_bytes()]


def work(tmp_path: Path, payload: str, url: str) -> bytes:
    """Run the program with a secret of its own, and return that."""
    secret = secrets.token_hex(16)
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", payload, url, "asyncio", secret]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    return secret.encode()


@pytest.mark.sweep
@pytest.mark.parametrize("store", ["rotating", "redis", "postgres"], indirect=True)
def test_r07_no_file_of_a_store_has_a_byte_of_a_message(store, tmp_path):
    url, folders = store
    for payload in ("type", "none"):
        secret = work(tmp_path, payload, url)
        assert holds([tmp_path, *folders()], secret) == []
    assert holds([tmp_path, *folders()], b"Vault")
    if folders():  # the check above can fail
        assert holds(folders(), work(tmp_path, "full", url))
