"""Promise 3: memory stays bounded on both sides, however much goes to a slow actor."""

from __future__ import annotations

import tracemalloc

import anyio
from _world import remote, systems

from papyra import Actor
from papyra.testing import run_seeded
from papyra_contrib.cluster.testing import MemoryNetwork

TELLS = 4_000
CHARACTERS = 5_000  # 20 MB in all
MAX_BYTES = 10_000_000


class Slow(Actor):
    """Takes a millisecond for each message, and keeps none."""

    async def receive(self, message: object) -> None:
        await anyio.sleep(0.001)


def test_c03_the_peak_of_memory_is_a_fraction_of_what_was_sent(backend):
    async def main() -> int:
        async with systems(MemoryNetwork(1), "a", "b") as (a, b):
            ref = await remote(b, a.spawn(Slow, mailbox_capacity=64), a)
            await ref.ask("warm")
            tracemalloc.start()
            try:
                for number in range(TELLS):
                    await ref.tell(f"{number:0{CHARACTERS}}")
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak = run_seeded(1, main, backend=backend)
    print(f"peak {peak} bytes for {TELLS * CHARACTERS}")
    assert peak < MAX_BYTES < TELLS * CHARACTERS
