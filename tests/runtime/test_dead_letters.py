"""The policy on dead letters: how much of a message is stored, logged and shown (promises 48 of the core and
R7).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from typing import Any

import anyio
import pytest

from papyra import Actor, ActorStopped, ActorSystem, Settings, SystemHooks
from papyra.deadletters import DeadLetterPolicy
from papyra.messages import DeadLetter
from papyra.testing import ManualClock

SECRET = "hunter2-4111111111111111"


class Target(Actor):
    async def receive(self, message: object) -> None: ...


@dataclasses.dataclass
class Login:
    password: str


class Quiet(Login):
    pass


async def lose(system: ActorSystem, *messages: object, name: str | None = None) -> None:
    """Send messages to an actor that has stopped."""
    ref = system.spawn(Target, name=name)
    await system.stop(ref)
    for message in messages:
        with pytest.raises(ActorStopped):
            await ref.tell(message)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "dead letter" in record.getMessage()]


async def test_a_dead_letter_says_why_and_for_whom_it_was() -> None:
    async with ActorSystem() as system:
        await lose(system, {"n": 1}, name="orders")
        (letter,) = system.dead_letters.messages
        assert (letter.reason, letter.message) == ("stopped", {"n": 1})
        await system.flush()
        (stored,) = await system.persistence.list_dead_letters()
        assert (stored.reason, stored.target_name, stored.payload) == ("stopped", "orders", {"n": 1})
        assert stored.target_type == f"{Target.__module__}.Target"
        assert stored.run == system.run_id


@pytest.mark.parametrize(
    ("policy", "message_type", "payload"),
    [
        (DeadLetterPolicy(), "Login", "Login(password='x')"),
        (DeadLetterPolicy(payload="type"), "Login", None),
        (DeadLetterPolicy(payload="none"), "", None),
        (DeadLetterPolicy(redact=lambda message: {"length": 1}), "Login", {"length": 1}),
        (DeadLetterPolicy(redact=lambda message: object), "Login", "<class 'object'>"),
        (DeadLetterPolicy(payload="type", redact=lambda message: 1), "Login", None),
    ],
)
async def test_48_the_policy_says_what_is_stored(
    policy: DeadLetterPolicy, message_type: str, payload: object
) -> None:
    async with ActorSystem(dead_letter_policy=policy) as system:
        await lose(system, Login("x"))
        await system.flush()
        (stored,) = await system.persistence.list_dead_letters()
        assert (stored.message_type, stored.payload) == (message_type, payload)


async def test_48_of_a_message_that_redact_fails_on_only_the_type_is_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(message: Any) -> object:
        raise ValueError(f"can't redact {message}")

    async with ActorSystem(dead_letter_policy=DeadLetterPolicy(redact=broken)) as system:
        await lose(system, Login(SECRET))
        await system.flush()
        (stored,) = await system.persistence.list_dead_letters()
        assert (stored.message_type, stored.payload) == ("Login", None)
    assert SECRET not in caplog.text


async def test_48_suppressed_types_are_counted_only(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[DeadLetter] = []
    policy = DeadLetterPolicy(suppress=(Login,))
    async with ActorSystem(
        dead_letter_policy=policy, hooks=SystemHooks(on_dead_letter=seen.append)
    ) as system:
        await lose(system, Login("a"), Quiet("b"), "c")
        await system.flush()
        assert system.dead_letters.count == 3
        assert [letter.message for letter in system.dead_letters.messages] == ["c"]
        assert [letter.payload for letter in await system.persistence.list_dead_letters()] == ["c"]
        assert [letter.message for letter in seen] == ["c"]
        assert system.audit().dead_letters_count == 3
    assert len(logged(caplog)) == 1


async def test_48_ten_are_logged_then_none_for_five_minutes_then_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    async with ActorSystem(time_fn=clock) as system:
        await lose(system, *range(25), name="orders")
        assert len(logged(caplog)) == 10
        assert "dead letter (stopped): int to actor local:1 ('orders', Target)" in logged(caplog)[0]
        clock.advance(299)
        assert len(logged(caplog)) == 10
        clock.advance(2)
        assert logged(caplog)[10:] == ["15 more dead letters were not logged"]
        await lose(system, "again")
        assert len(logged(caplog)) == 12


async def test_48_what_was_not_logged_is_reported_at_the_close(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem(dead_letter_policy=DeadLetterPolicy(log_first=1)) as system:
        await lose(system, 1, 2, 3)
    assert logged(caplog)[1:] == ["2 more dead letters were not logged"]


async def test_48_a_policy_may_log_none(caplog: pytest.LogCaptureFixture) -> None:
    async with ActorSystem(dead_letter_policy=DeadLetterPolicy(log_first=0, mute_seconds=0.01)) as system:
        await lose(system, 1, 2)
        with anyio.fail_after(10):
            while not logged(caplog):  # noqa: ASYNC110 - a log line sets no event
                await anyio.sleep(0.01)
    assert logged(caplog) == ["2 more dead letters were not logged"]


async def test_the_settings_are_the_policy_of_a_system_without_one() -> None:
    async with ActorSystem(settings=Settings(dead_letter_payload="none")) as system:
        await lose(system, SECRET)
        await system.flush()
        (stored,) = await system.persistence.list_dead_letters()
        assert (stored.message_type, stored.payload) == ("", None)
    policy = DeadLetterPolicy(payload="type")
    async with ActorSystem(
        settings=Settings(dead_letter_payload="none"), dead_letter_policy=policy
    ) as system:
        await lose(system, SECRET)
        await system.flush()
        assert [one.message_type for one in await system.persistence.list_dead_letters()] == ["str"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"payload": "hash"}, ValueError), ({"redact": "no"}, TypeError), ({"suppress": (1,)}, TypeError),
        ({"log_first": -1}, ValueError), ({"log_first": 1.5}, ValueError), ({"mute_seconds": -1}, ValueError),
        ({"mute_seconds": float("nan")}, ValueError),
    ],
)  # fmt: skip
def test_a_policy_that_means_nothing_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        DeadLetterPolicy(**arguments)


def test_a_system_takes_a_policy_only() -> None:
    with pytest.raises(TypeError, match="dead_letter_policy must be"):
        ActorSystem(dead_letter_policy="none")  # type: ignore[arg-type]  # that is what it refuses


def test_the_representation_shows_no_message() -> None:
    from papyra.messages import DeadLetter

    letter = DeadLetter(None, Login(SECRET))  # type: ignore[arg-type]  # any target
    assert SECRET not in f"{letter} {letter!r}"


PROGRAM = """
import dataclasses, logging, sys, anyio
from papyra import Actor, ActorStopped, ActorSystem, SystemHooks
from papyra.deadletters import DeadLetterPolicy

logging.basicConfig(level=logging.DEBUG, filename="program.log")
payload, store, loop, secret = sys.argv[1:]

class Vault(Actor):
    def __init__(self): self.busy = anyio.Event()
    async def receive(self, message):
        if message == "wait": await self.busy.wait()
        raise RuntimeError("the vault is broken")
    async def on_stop(self): self.busy.set()

@dataclasses.dataclass
class Login:
    password: str

async def show(what):
    print(repr(what), what)

async def main():
    hooks = SystemHooks(on_dead_letter=show, on_failure=show, on_event=show, on_audit=show)
    policy = DeadLetterPolicy(payload=payload)
    async with ActorSystem(persistence=store, hooks=hooks, dead_letter_policy=policy) as system:
        for message in ({"password": secret}, Login(secret), secret, secret.encode(), [secret]):
            ref = system.spawn(Vault, name="vault")
            await ref.tell("wait")
            await ref.tell(message)   # a dead letter when the actor stops
            await system.stop(ref, timeout=0)
            for send in (ref.tell, ref.ask):
                try: await send(message)
                except ActorStopped as error: print(repr(error))
            other = system.spawn(Vault)
            try: await other.ask(message)   # a failure while it is handled
            except RuntimeError as error: print(repr(error))
        print(system.audit(), system.dead_letters.messages, system.events(), system.control_panel())

anyio.run(main, backend=loop)
"""


@pytest.mark.parametrize("payload", ["type", "none"])
@pytest.mark.parametrize("store", ["json:./facts.ndjson", "sqlite:./facts.db"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_r07_no_byte_of_a_message_reaches_a_file_a_log_or_the_terminal(
    payload: str, store: str, loop: str, tmp_path: Any
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, "-X", "dev", "program.py", payload, store, loop, SECRET],
        cwd=tmp_path, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    outputs = {"stdout": run.stdout, "stderr": run.stderr}
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"vault" in content for name, content in files.items() if name.startswith("facts."))
    assert b"dead letter" in files["program.log"]
    for name, content in {**outputs, **files}.items():
        assert SECRET.encode() not in content, name
        assert b"hunter2" not in content, name


def test_r07_the_same_program_does_store_them_without_a_policy(tmp_path: Any) -> None:
    """The check above can fail."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "full", "json:./facts.ndjson", "asyncio", SECRET]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    lines = [json.loads(line) for line in (tmp_path / "facts.ndjson").read_bytes().splitlines()]
    letters = [line for line in lines if line["kind"] == "dead_letter"]
    assert {"password": SECRET} in [letter["payload"] for letter in letters]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
