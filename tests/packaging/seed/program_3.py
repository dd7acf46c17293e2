from __future__ import annotations
import anyio
from papyra.persistence.json import JsonFilePersistence
from papyra.system import ActorSystem
# from your_module import Counter
async def main() -> None:
    persistence = JsonFilePersistence("./papyra.ndjson")
    async with ActorSystem(persistence=persistence) as system:
        system.spawn(Counter, name="counter")
if __name__ == "__main__":
    anyio.run(main)
