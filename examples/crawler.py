"""A crawler: a bounded number of pages at a time, politeness between them, and retries that do not block."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial

import anyio

from papyra import Actor, ActorRef, ActorSystem, Askable

PAGES = {
    "/": ["/docs", "/blog", "/broken"],
    "/docs": ["/", "/docs/timers"],
    "/docs/timers": ["/docs"],
    "/blog": ["/docs", "/blog/1"],
    "/blog/1": [],
}


async def fetch(url: str) -> list[str]:
    """Stand for an HTTP request: return the links of a page."""
    await anyio.sleep(0.001)
    if url not in PAGES:
        raise LookupError(f"404 {url}")
    return PAGES[url]


@dataclass(frozen=True)
class Crawl(Askable["Report"]):
    url: str


@dataclass
class Report:
    pages: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


class Crawler(Actor):
    """Answers one crawl when all pages are fetched; other crawls wait in the stash meanwhile."""

    at_once = 2
    pause_seconds = 0.001
    attempts = 2

    def __init__(self) -> None:
        self.report = Report()
        self.waiting: list[str] = []
        self.seen: dict[str, int] = {}
        self.fetching = 0

    async def receive(self, message: Crawl) -> Report:
        self.become(self.busy)
        self.report = Report()
        self.reply = self.context.reply_later()
        self.seen = {message.url: 1}
        self.waiting = [message.url]
        self.context.timers.start_fixed_delay(
            "fetch", self.pause_seconds, call=self.fetch_next, initial_delay=0
        )
        return self.reply.later

    async def busy(self, message: Crawl) -> Report:
        return self.context.stash(message)

    def fetch_next(self) -> None:
        if self.waiting and self.fetching < self.at_once:
            url = self.waiting.pop(0)
            self.fetching += 1
            self.context.pipe_to_self(
                partial(fetch, url), partial(self.fetched, url), catch=partial(self.failed, url)
            )

    def fetched(self, url: str, links: list[str]) -> None:
        self.report.pages.append(url)
        for link in links:
            if link not in self.seen:
                self.seen[link] = 1
                self.waiting.append(link)
        self.one_less()

    def failed(self, url: str, error: Exception) -> None:
        if self.seen[url] < self.attempts:
            self.seen[url] += 1
            self.waiting.append(url)
        else:
            self.report.errors.append(str(error))
        self.one_less()

    def one_less(self) -> None:
        self.fetching -= 1
        if not self.fetching and not self.waiting:
            self.context.timers.cancel("fetch")
            self.reply.send(self.report)
            self.unbecome()
            self.context.unstash_all()


async def main() -> None:
    async with ActorSystem() as system:
        crawler: ActorRef[Crawl, Report] = system.spawn(Crawler)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crawler.ask, Crawl("/blog"))
            report = await crawler.ask(Crawl("/"), timeout=10)
            print("pages:", *sorted(report.pages))
            print("errors:", *report.errors)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1] if len(sys.argv) > 1 else "asyncio")
