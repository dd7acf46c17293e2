from __future__ import annotations
import anyio
from papyra.system import ActorSystem
# from your_module import Counter, Increment
async def main() -> None:
    # The system can be used as an async context manager.
    # It will start automatically on enter and close on exit.
    async with ActorSystem() as system:
        ref = system.spawn(Counter, name="counter")
        # Fire-and-forget (no result expected)
        # Depending on your ActorRef API, this is typically `tell(...)`.
        await ref.tell(Increment())
        # Request/reply (returns the value from `receive`)
        # Depending on your ActorRef API, this is typically `ask(...)`.
        value = await ref.ask("get")
        print("counter =", value)
if __name__ == "__main__":
    anyio.run(main)
