"""ActorProxy: an actor's methods and attributes, reached by messages.

Guarantees 1 to 3, 5 and 7 hold for it too.
"""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from papyra import Actor, ActorProxy, ActorStopped

from .support import running


class Engine:
    def __init__(self) -> None:
        self.rpm = 800
        self.log: list[int] = []

    def faster(self, by: int = 100) -> int:
        self.rpm += by
        return self.rpm

    async def measure(self) -> int:
        await anyio.lowlevel.checkpoint()
        return self.rpm


class Car(Actor):
    wheels = 4

    def __init__(self) -> None:
        self.engine = Engine()
        self.speed = 0
        self.inside = 0
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._secret = "hidden"

    def drive(self, speed: int) -> int:
        self.speed = speed
        return speed

    async def drive_slowly(self, *, speed: int = 5) -> int:
        assert self.inside == 0
        self.inside += 1
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.inside -= 1
        self.speed = speed
        return speed

    def note(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append((args, kwargs))

    def crash(self) -> None:
        raise OSError("into a wall")

    async def crash_slowly(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise KeyError("slowly")

    def set(self, value: int) -> str:
        return f"set({value})"

    def defer(self) -> str:
        return "defer()"

    @property
    def broken(self) -> int:
        raise ZeroDivisionError

    async def receive(self, message: Any) -> Any:
        return ("received", message)


async def test_calls_plain_and_async_methods() -> None:
    async with running() as system:
        car = system.spawn(Car).proxy()
        assert isinstance(car, ActorProxy)
        assert await car.drive(30) == 30
        assert await car.drive_slowly(speed=7) == 7
        assert await car.drive_slowly() == 5
        await car.note(1, [2], key={"a": 3})
        assert await car.calls == [((1, [2]), {"key": {"a": 3}})]


async def test_reads_and_sets_attributes() -> None:
    async with running() as system:
        car = system.spawn(Car).proxy()
        assert await car.wheels == 4
        await car.speed.set(12)
        assert await car.speed == 12
        await car.colour.set("red")
        assert await car.colour == "red"
        assert await car.speed.set(None) is None
        assert await car.speed is None


async def test_nested_paths() -> None:
    async with running() as system:
        car = system.spawn(Car).proxy()
        assert await car.engine.rpm == 800
        assert await car.engine.faster(200) == 1000
        assert await car.engine.measure() == 1000
        await car.engine.rpm.set(5)
        assert await car.engine.rpm == 5
        await car.engine.log.append.defer(1)
        await car.engine.log.append(2)
        assert await car.engine.log == [1, 2]


async def test_names_set_and_defer_as_methods_of_the_actor() -> None:
    async with running() as system:
        car = system.spawn(Car).proxy()
        assert await car.set(3) == "set(3)"
        assert await car.defer() == "defer()"


async def test_defer_sends_the_call_and_does_not_wait() -> None:
    gate = anyio.Event()
    done: list[int] = []

    class Slow(Actor):
        async def work(self, number: int) -> None:
            await gate.wait()
            done.append(number)

    async with running() as system:
        slow = system.spawn(Slow).proxy()
        for number in range(5):
            assert await slow.work.defer(number) is None
        assert done == []
        gate.set()
        await slow.work(5)
    assert done == [0, 1, 2, 3, 4, 5]


async def test_g07_one_call_at_a_time_in_order_with_messages() -> None:
    async with running() as system:
        ref = system.spawn(Car)
        car = ref.proxy()

        async def call(speed: int) -> None:
            assert await car.drive_slowly(speed=speed) == speed

        async with anyio.create_task_group() as group:
            for speed in range(10):
                group.start_soon(call, speed)
                group.start_soon(ref.tell, speed)
        assert await car.inside == 0


@pytest.mark.parametrize("name", ["_secret", "__class_getitem__", "__len__", "_papyra_context", "__iter__"])
async def test_a_leading_underscore_is_refused_on_the_spot(name: str) -> None:
    async with running() as system:
        car = system.spawn(Car).proxy()
        with pytest.raises(AttributeError, match="underscore"):
            getattr(car, name)
        with pytest.raises(AttributeError, match="underscore"):
            getattr(car.engine, name)
        assert not hasattr(car, name)


async def test_assignment_on_the_spot_is_refused_and_says_what_to_write() -> None:
    async with running() as system:
        car: Any = system.spawn(Car).proxy()
        with pytest.raises(AttributeError, match=r"await proxy\.speed\.set\(value\)"):
            car.speed = 5
        with pytest.raises(AttributeError, match=r"await proxy\.engine\.rpm\.set\(value\)"):
            car.engine.rpm = 5
        assert await car.speed == 0


async def test_g03_the_very_exception_comes_out_and_the_actor_fails() -> None:
    error = OSError("mine")

    class Fails(Actor):
        def crash(self) -> None:
            raise error

    async with running() as system:
        ref = system.spawn(Fails)
        with pytest.raises(OSError, match="mine") as caught:
            await ref.proxy().crash()
        assert caught.value is error
        with pytest.raises(ActorStopped):
            await ref.proxy().crash()


async def test_g03_a_failing_async_method_of_a_named_actor_restarts_it() -> None:
    async with running() as system:
        car = system.spawn(Car, name="car").proxy()
        await car.speed.set(5)
        with pytest.raises(KeyError):
            await car.crash_slowly()
        assert await car.speed == 0


async def test_a_deferred_call_that_fails_fails_the_actor_alone() -> None:
    async with running() as system:
        car = system.spawn(Car, name="car").proxy()
        await car.speed.set(5)
        await car.crash.defer()
        assert await car.speed == 0


async def test_a_property_that_fails_fails_the_actor() -> None:
    async with running() as system:
        ref = system.spawn(Car)
        with pytest.raises(ZeroDivisionError):
            await ref.proxy().broken
        with pytest.raises(ActorStopped):
            await ref.proxy().speed


async def test_mistakes_of_the_caller_do_not_harm_the_actor() -> None:
    async with running() as system:
        car: Any = system.spawn(Car).proxy()
        await car.speed.set(5)
        with pytest.raises(AttributeError, match="nowhere"):
            await car.nowhere
        with pytest.raises(AttributeError, match="nowhere"):
            await car.engine.nowhere()
        with pytest.raises(TypeError, match="drive"):
            await car.drive()
        with pytest.raises(TypeError, match="drive"):
            await car.drive(1, 2, 3)
        with pytest.raises(TypeError):
            await car.speed()
        with pytest.raises(TypeError, match=r"await proxy\.drive\(\.\.\.\)"):
            await car.drive
        with pytest.raises(TypeError, match="one value"):
            await car.speed.set()
        with pytest.raises(TypeError, match="one value"):
            await car.speed.set(1, 2)
        with pytest.raises(AttributeError):
            await car.engine.nowhere.deeper.set(1)
        await car.drive.defer()
        assert await car.speed == 5, "the same instance lives on"
        assert not [event for event in system.events() if type(event).__name__ == "ActorCrashed"]


async def test_g02_the_dead_letter_of_a_call_is_plain_data() -> None:
    async with running() as system:
        ref = system.spawn(Car)
        await system.stop(ref)
        car = ref.proxy()
        with pytest.raises(ActorStopped):
            await car.engine.faster(5, unit="rpm")
        with pytest.raises(ActorStopped):
            await car.note.defer("x")
        with pytest.raises(ActorStopped):
            await car.speed
        with pytest.raises(ActorStopped):
            await car.speed.set(9)
        described = [(letter.message, letter.expects_reply) for letter in system.dead_letters.messages]
        assert described == [
            ({"proxy": "call", "name": "engine.faster", "args": [5], "kwargs": {"unit": "rpm"}}, True),
            ({"proxy": "call", "name": "note", "args": ["x"], "kwargs": {}}, False),
            ({"proxy": "read", "name": "speed", "args": [], "kwargs": {}}, True),
            ({"proxy": "set", "name": "speed", "args": [9], "kwargs": {}}, True),
        ]


async def test_g01_a_full_mailbox_makes_calls_and_deferred_calls_wait() -> None:
    gate = anyio.Event()
    done: list[int] = []
    sent: list[int] = []

    class Slow(Actor):
        async def work(self, number: int) -> None:
            await gate.wait()
            done.append(number)

    async with running() as system:
        slow = system.spawn(Slow, mailbox_capacity=1).proxy()

        async def send(number: int) -> None:
            await slow.work.defer(number)
            sent.append(number)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(send, number)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            assert sent == [0, 1]
            gate.set()
        await slow.work(6)
    assert done == [0, 1, 2, 3, 4, 5, 6]


async def test_g03_a_call_given_up_is_dropped_and_the_actor_goes_on() -> None:
    gate = anyio.Event()

    class Slow(Actor):
        calls = 0

        async def work(self) -> int:
            await gate.wait()
            self.calls += 1
            return self.calls

    async with running() as system:
        slow = system.spawn(Slow).proxy()
        with anyio.move_on_after(0.01) as scope:
            await slow.work()
        assert scope.cancelled_caught
        gate.set()
        assert await slow.work() == 2


async def test_a_proxy_prints_its_actor() -> None:
    async with running() as system:
        car = system.spawn(Car, name="beetle").proxy()
        assert "beetle" in repr(car)
        assert "engine.rpm" in repr(car.engine.rpm)


async def test_a_method_may_return_what_is_awaitable_and_builtins_without_a_signature() -> None:
    class Odd(Actor):
        def __init__(self) -> None:
            self.items: dict[str, int] = {"a": 1}
            self.kind = dict

        def later(self) -> Any:
            async def inner() -> str:
                return "later"

            return inner()

    async with running() as system:
        odd = system.spawn(Odd).proxy()
        assert await odd.later() == "later"
        assert await odd.items.get("a") == 1
        assert await odd.items.update(b=2) is None
        assert await odd.kind(c=3) == {"c": 3}
        assert await odd.items == {"a": 1, "b": 2}
