"""A crawler: a bounded number of pages at a time, politeness between them, and retries that do not block. It
listens meanwhile: pages can be added while somebody waits for the end.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import anyio

from papyra import Actor, ActorRef, ActorSystem, Askable, Reply

PAGES = {
    "/": ["/docs", "/blog", "/broken"],
    "/docs": ["/", "/docs/timers"],
    "/docs/timers": ["/docs"],
    "/blog": ["/docs", "/blog/1"],
    "/blog/1": [],
}


async def download(url: str) -> list[str]:
    """Stand for an HTTP request: return the links of a page."""
    await anyio.sleep(0.001)
    if url not in PAGES:
        raise LookupError(f"404 {url}")
    return PAGES[url]


@dataclass
class Report:
    pages: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Visit:
    url: str


@dataclass(frozen=True)
class Finish(Askable[Report]):
    """It is answered when no page is left to visit."""


class Crawler(Actor):
    """Visits each page once, and the pages that it links to."""

    pause_seconds = 0.001
    retry_seconds = (0.001, 0.002)

    def __init__(self) -> None:
        self.report = Report()
        self.seen: set[str] = set()
        self.visiting = 0
        self.slots = anyio.CapacityLimiter(2)
        self.waiting: list[Reply[Report]] = []

    async def receive(self, message: Visit | Finish) -> Report:
        match message:
            case Visit(url):
                self.visit(url)
                return self.report
            case Finish() if self.visiting:
                self.waiting.append(self.context.reply_later())
                return self.waiting[-1].later
            case Finish():
                return self.report

    def visit(self, url: str) -> None:
        if url not in self.seen:
            self.seen.add(url)
            self.visiting += 1
            self.context.pipe_to_self(partial(self.fetch, url), partial(self.fetched, url), catch=self.failed)

    async def fetch(self, url: str) -> list[str]:
        """Return the links of a page. A retry waits without a slot."""
        for seconds in self.retry_seconds:
            with suppress(LookupError):
                return await self.fetch_once(url)
            await anyio.sleep(seconds)
        return await self.fetch_once(url)

    async def fetch_once(self, url: str) -> list[str]:
        async with self.slots:
            await anyio.sleep(self.pause_seconds)
            return await download(url)

    def fetched(self, url: str, links: list[str]) -> None:
        self.report.pages.append(url)
        for link in links:
            self.visit(link)
        self.visited()

    def failed(self, error: Exception) -> None:
        self.report.errors.append(str(error))
        self.visited()

    def visited(self) -> None:
        self.visiting -= 1
        while self.waiting and not self.visiting:
            self.waiting.pop().send(self.report)


async def main() -> None:
    async with ActorSystem() as system:
        crawler: ActorRef[Visit | Finish, Report] = system.spawn(Crawler)
        async with anyio.create_task_group() as tasks:
            await crawler.tell(Visit("/blog"))
            tasks.start_soon(crawler.ask, Finish())
            await crawler.tell(Visit("/"))
            report = await crawler.ask(Finish(), timeout=10)
            print("pages:", *sorted(report.pages))
            print("errors:", *report.errors)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
