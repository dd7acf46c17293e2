"""H14: the default policy of a named actor waits from the second restart on; an explicit policy waits as it
says.
"""

from __future__ import annotations

import anyio
import pytest

from papyra import Actor, ActorSystem, Strategy, SupervisionPolicy
from papyra import events as ev
from papyra.supervision import NAMED_POLICY
from papyra.testing import run_seeded


class Outage(Actor):
    """Its service is back at a time: until then it can't start."""

    back_at = 0.0

    async def on_start(self) -> None:
        if anyio.current_time() < self.back_at:
            raise ConnectionError("the service is down")


async def restarts(seconds: float, policy: SupervisionPolicy | None) -> tuple[bool, list[float]]:
    """Return whether an actor lives after an outage, and the delays of its restarts, in seconds."""

    class Service(Outage):
        back_at = anyio.current_time() + seconds

    async with ActorSystem() as system:
        ref = system.spawn(Service, name="service", policy=policy)
        await anyio.sleep(30)
        found = [event.payload for event in system.events() if isinstance(event, ev.ActorRestarted)]
        return ref.is_alive(), [float(str(payload.get("delay", 0.0))) for payload in found]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_h14_an_outage_of_a_second_does_not_use_up_the_default_restarts(loop: str) -> None:
    async def main() -> None:
        alive, delays = await restarts(1.0, None)
        assert alive
        assert delays[-1] == pytest.approx(1.0, rel=0.1)
        assert await restarts(10.0, None) == (False, [])

    run_seeded(1, main, backend=loop)  # type: ignore[arg-type]  # a literal above


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_h14_an_explicit_policy_without_a_backoff_restarts_at_once(loop: str) -> None:
    async def main() -> None:
        assert await restarts(1.0, SupervisionPolicy(Strategy.RESTART)) == (False, [])

    run_seeded(1, main, backend=loop)  # type: ignore[arg-type]  # as above


def test_h14_the_default_delays() -> None:
    backoff = NAMED_POLICY.backoff
    assert backoff is not None
    delays = [backoff.delay(restart) for restart in range(1, 9)]
    assert delays[0] == 0.0
    assert delays[1:] == pytest.approx([0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0], rel=0.1)
    assert SupervisionPolicy(Strategy.RESTART).backoff is None
