"""The crawler without primitives: a task group of its own for the pages, and a reply that is an event.

It promises less than its twin: stopped, it does not finish the pages that a caller waits for.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from papyra import Actor, ActorRef, ActorStopped, ActorSystem, Askable

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


@dataclass
class Crawl:
    """The visits from one idle moment to the next, of which callers await the end."""

    report: Report
    over: anyio.Event = field(default_factory=anyio.Event)
    stopped: bool = False


@dataclass(frozen=True)
class Finish(Askable[Crawl]):
    """Use `finish`: the reply to this is a crawl that may still go on."""


async def finish(crawler: ActorRef[Visit | Finish, Crawl]) -> Report:
    crawl = await crawler.ask(Finish())
    await crawl.over.wait()
    if crawl.stopped:
        raise ActorStopped(crawler)
    return crawl.report


class Crawler(Actor):
    """Visits each page once, and the pages that it links to."""

    own_task = True
    pause_seconds = 0.001
    retry_seconds = (0.001, 0.002)

    def __init__(self) -> None:
        self.crawl = Crawl(Report())
        self.seen: set[str] = set()
        self.visiting = 0
        self.slots = anyio.CapacityLimiter(2)

    async def on_start(self) -> None:
        self.crawl.over.set()
        self.tasks = await anyio.create_task_group().__aenter__()

    async def on_stop(self) -> None:
        self.crawl.stopped = self.visiting > 0
        self.crawl.over.set()
        self.tasks.cancel_scope.cancel()
        await self.tasks.__aexit__(None, None, None)

    async def receive(self, message: Visit | Finish) -> Crawl:
        if isinstance(message, Visit):
            self.visit(message.url)
        return self.crawl

    def visit(self, url: str) -> None:
        if url not in self.seen:
            self.seen.add(url)
            if not self.visiting:
                self.crawl = Crawl(self.crawl.report)
            self.visiting += 1
            self.tasks.start_soon(self.work, url)

    async def work(self, url: str) -> None:
        try:
            links = await self.fetch(url)
        except LookupError as error:
            self.crawl.report.errors.append(str(error))
        else:
            self.crawl.report.pages.append(url)
            for link in links:
                self.visit(link)
        self.visiting -= 1
        if not self.visiting:
            self.crawl.over.set()

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


async def main() -> None:
    async with ActorSystem() as system:
        crawler: ActorRef[Visit | Finish, Crawl] = system.spawn(Crawler)
        async with anyio.create_task_group() as tasks:
            await crawler.tell(Visit("/blog"))
            tasks.start_soon(finish, crawler)
            await crawler.tell(Visit("/"))
            with anyio.fail_after(10):
                report = await finish(crawler)
            print("pages:", *sorted(report.pages))
            print("errors:", *report.errors)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
