"""`ActorSystem.tree` and the orders of `ActorSystem.list_actors`."""

from __future__ import annotations

import pytest

from papyra import Actor, ActorSystem


class Leaf(Actor):
    async def receive(self, message: object) -> int:
        return 0


class Branch(Actor):
    def __init__(self, leaves: int) -> None:
        self.leaves = leaves

    async def on_start(self) -> None:
        for _ in range(self.leaves):
            self.context.spawn_child(Leaf)

    async def receive(self, message: object) -> int:
        return self.leaves


async def test_siblings_of_a_type_fold_into_one_row():
    async with ActorSystem() as system:
        few, many = system.spawn(Branch, 2, name="few"), system.spawn(Branch, 12, name="many")
        assert (await few.ask("?"), await many.ask("?")) == (2, 12)
        shown = [(row.level, row.count, row.actor_type, row.parent) for row in system.tree()]
        assert shown == [
            (0, 1, "Branch", None),
            (1, 1, "Leaf", str(few.address)),
            (1, 1, "Leaf", str(few.address)),
            (0, 1, "Branch", None),
            (1, 12, "Leaf", str(many.address)),
        ]
        assert len(system.tree(fold=None)) == 2 + 2 + 12
        assert [row.level for row in system.tree(max_level=0)] == [0, 0]
        assert [row.count for row in system.tree(many)] == [12]
        assert system.tree(limit=2, offset=1) == system.tree()[1:3]


async def test_a_folded_row_sums_up_its_actors():
    async with ActorSystem() as system:
        refs = [system.spawn(Leaf) for _ in range(12)]
        for ref in refs:
            await ref.ask("?")
        (row,) = system.tree()
        assert (row.count, row.processed, row.waiting, row.actor) == (12, 12, 0, None)


async def test_a_deep_tree_needs_no_deep_recursion():
    class Nested(Actor):
        def __init__(self, below: int) -> None:
            self.below = below

        async def on_start(self) -> None:
            if self.below:
                self.context.spawn_child(Nested, self.below - 1)

        async def receive(self, message: object) -> None: ...

    async with ActorSystem() as system:
        system.spawn(Nested, 1500)
        while len(system.refs()) < 1501:
            await system.spawn(Leaf, name="turn").ask("?")
            await system.stop(system.ref_for_name("turn"))
        assert system.tree()[-1].level == 1500


async def test_actors_in_the_order_of_what_they_handled():
    async with ActorSystem() as system:
        quiet, busy, busiest = (system.spawn(Leaf, name=name) for name in ("quiet", "busy", "busiest"))
        for ref, times in ((busy, 2), (busiest, 3)):
            for _ in range(times):
                await ref.ask("?")
        assert [info.name for info in system.list_actors(by="processed")] == ["busiest", "busy", "quiet"]
        assert [info.name for info in system.list_actors(by="processed", limit=1, offset=1)] == ["busy"]
        assert [info.address for info in system.list_actors(limit=1)] == [quiet.address]
        with pytest.raises(ValueError, match="by must be one of mailbox, processed, restarts, not 'age'"):
            system.list_actors(by="age")
