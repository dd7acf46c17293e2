"""Mistakes: every line with the word ERROR must be reported by mypy and by pyright, and no other line."""

from __future__ import annotations

from papyra import Actor, ActorRef, ActorSystem, Askable, Portal, ask_all


class Get(Askable[int]):
    pass


class Foreign(Askable[str]):
    pass


class Store(Actor):
    async def receive(self, message: Get | str) -> int:
        match message:
            case Get():
                return "wrong"  # ERROR
            case _:
                return 1

    async def takes_less(self, message: str) -> int:
        return 1

    async def replies_otherwise(self, message: Get | str) -> bytes:
        return b""

    def switch(self) -> None:
        self.become(self.takes_less)  # ERROR
        self.become(self.replies_otherwise)  # ERROR
        self.context.pipe_to_self(self.load, self.takes_text)  # ERROR

    async def load(self) -> int:
        return 1

    def takes_text(self, text: str) -> None: ...


async def main(system: ActorSystem, portal: Portal) -> None:
    store: ActorRef[Get | str, int] = system.spawn(Store)
    await store.ask(Foreign())  # ERROR
    store.request(Foreign())  # ERROR
    portal.ask(store, Foreign())  # ERROR
    portal.tell(store, 1)  # ERROR
    store.tell_nowait(1)  # ERROR
    text: str = await store.ask(Get())  # ERROR
    texts: list[str] = await ask_all(store.request(Get()))  # ERROR
    await ask_all((store, Get()))  # ERROR
    system.spawn(Store, on_full="block")  # ERROR
    print(text, texts)
