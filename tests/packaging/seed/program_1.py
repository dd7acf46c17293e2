from __future__ import annotations
from dataclasses import dataclass
from papyra.actor import Actor
@dataclass(slots=True)
class Increment:
    by: int = 1
class Counter(Actor):
    def __init__(self) -> None:
        self.value = 0
    async def on_start(self) -> None:
        # `self.context` becomes available only after the actor is spawned.
        # You can inspect system metadata from here.
        _ = self.context.system.system_id
    async def receive(self, message):
        if isinstance(message, Increment):
            self.value += message.by
            return self.value
        if message == "get":
            return self.value
        return None
