"""`Wire` cuts and stalls connections, and `full_disk` leaves as much room as it says."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from papyra.testing import Wire, full_disk


class Echo:
    """A server that answers each line; it notes whatever came, and on which connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.received: list[bytes] = []
        self.left = threading.Semaphore(0)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                whole = b""
                while data := client.recv(1000):
                    whole += data
                    if data.endswith(b"\n"):
                        client.sendall(b"answer to " + data)
                self.received.append(whole)
            self.left.release()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Generator[Echo]:
    made = Echo(tmp_path / "s")
    yield made
    made.close()


@pytest.fixture
def wire(server: Echo) -> Generator[Wire]:
    with Wire(server.path) as made:
        yield made


def connect(wire: Wire) -> socket.socket:
    return socket.create_connection((wire.host, wire.port), timeout=10)


def test_a_server_may_listen_at_a_port(server: Echo, wire: Wire) -> None:
    with Wire((wire.host, wire.port)) as before, connect(before) as client:
        client.sendall(b"first\n")
        assert client.recv(1000) == b"answer to first\n"
        assert before.messages == wire.messages == 2  # a request and its answer


def test_a_request_that_is_cut_arrives_by_half(server: Echo, wire: Wire) -> None:
    with connect(wire) as client:
        client.sendall(b"first\n")
        assert client.recv(1000) == b"answer to first\n"
        with wire.cut_at(1):
            client.sendall(b"second\n")
            assert client.recv(1000) == b""
    assert server.left.acquire(timeout=10)
    assert server.received == [b"first\nsec"]
    assert (wire.messages, wire.cuts) == (3, 1)


def test_an_answer_that_is_cut_is_lost_and_a_new_connection_works(server: Echo, wire: Wire) -> None:
    with wire.cut_at(2):
        with connect(wire) as client:
            client.sendall(b"first\n")
            assert client.recv(1000) == b""
        assert server.left.acquire(timeout=10)
        with connect(wire) as client:
            client.sendall(b"again\n")
            assert client.recv(1000) == b"answer to again\n"
    assert server.received[0] == b"first\n"


def test_without_the_message_nothing_is_cut(server: Echo, wire: Wire) -> None:
    with connect(wire) as client:
        with wire.cut_at(3):
            client.sendall(b"first\n")
            assert client.recv(1000) == b"answer to first\n"
        client.sendall(b"second\n")
        assert client.recv(1000) == b"answer to second\n"
    assert wire.cuts == 0


def test_a_stalled_wire_takes_connections_and_delivers_afterwards(server: Echo, wire: Wire) -> None:
    with wire.stall():
        client = connect(wire)
        client.sendall(b"first\n")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1000)
    with client:
        client.settimeout(10)
        assert client.recv(1000) == b"answer to first\n"


def test_cutting_and_closing_cut_every_connection(server: Echo, wire: Wire) -> None:
    with connect(wire) as client:
        client.sendall(b"first\n")
        assert client.recv(1000) == b"answer to first\n"
        wire.cut()
        assert client.recv(1000) == b""
    with connect(wire) as client:
        wire.close()
        assert client.recv(1000) == b""
    with pytest.raises(OSError, match="refused"):
        connect(wire)


def test_a_server_that_is_away_is_a_connection_that_ends(tmp_path: Path) -> None:
    with Wire(tmp_path / "nobody") as wire, connect(wire) as client:
        assert client.recv(1000) == b""


def test_a_full_disk_takes_what_it_has_room_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    with path.open("ab", buffering=0) as file:
        with full_disk(path, room=5):
            assert file.write(b"y" * 100) == 5
            with pytest.raises(OSError, match="large") as caught:
                file.write(b"z")
        assert caught.value.errno == errno.EFBIG
        assert file.write(b"z" * 100) == 100
