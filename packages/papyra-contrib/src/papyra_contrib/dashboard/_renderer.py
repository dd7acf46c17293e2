"""Models to pages: Jinja escapes everything, and each view is rendered once a second, in a thread."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from papyra_contrib._printable import printable
from papyra_contrib.dashboard._poller import LOOK_SECONDS
from papyra_contrib.dashboard._source import SourceGone, SourceRefused
from papyra_contrib.dashboard._view_models import BAR, VIEWS

if TYPE_CHECKING:
    from papyra_contrib.dashboard._poller import Poller, Snapshot
    from papyra_contrib.dashboard._view_models import Parameters

__all__ = ["Rendered", "Renderer", "message_page"]

MAX_KEPT = 64
"""Views with their parameters whose last page is kept."""


class Rendered:
    """A view as it was rendered: its HTML, and the system's state for the header."""

    __slots__ = ("html", "kept_from", "status", "system_id")

    def __init__(self, html: Markup, status: dict[str, Any], kept_from: float) -> None:
        self.html = html
        self.status = status
        self.kept_from = kept_from


class Renderer:
    """Renders the views of one dashboard."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._kept: dict[object, Rendered] = {}
        self._turns: dict[object, anyio.Lock] = {}
        self.renders = 0

    async def view(self, view: str, parameters: Parameters) -> Rendered:
        """Return a view that is at most a second old. For visitors that ask at once, it is rendered once."""
        key = (view, parameters.key())
        turn = self._turns.setdefault(key, anyio.Lock())
        async with turn:
            rendered = self._kept.get(key)
            if rendered is None or time.monotonic() - rendered.kept_from >= LOOK_SECONDS:
                rendered = self._kept[key] = await self._fresh(view, parameters)
                self._forget()
        return rendered

    async def _fresh(self, view: str, parameters: Parameters) -> Rendered:
        snapshot = await self._poller.look()
        status = status_of(snapshot, self._poller.source.kind)
        template, model = f"{view}.html", dict[str, Any]()
        if not snapshot.answer:
            template = "nothing.html"
            model = {"text": snapshot.gone}
        else:
            try:
                model = await VIEWS[view](self._poller, snapshot, parameters)
            except (SourceGone, SourceRefused) as error:
                template = "nothing.html"
                model = {"text": str(error)}
        actions = self._poller.source.actions
        html = await anyio.to_thread.run_sync(
            lambda: _rendered(template, gone=status["gone"], actions=actions, **model)
        )
        self.renders += 1
        return Rendered(html, status, snapshot.taken)

    async def page(self, view: str, rendered: Rendered, **shell: Any) -> str:
        """Return a whole page around a view."""
        bar = [entry for entry in BAR if entry[0] in self._poller.source.views]
        return await anyio.to_thread.run_sync(
            lambda: _rendered(
                "page.html", view=view, bar=bar, body=rendered.html, status=rendered.status, **shell
            )
        )

    async def fragment(self, rendered: Rendered) -> str:
        """Return a view, and the state in the header, to update an open page."""
        return _rendered("live.html", body=rendered.html, status=rendered.status)

    def _forget(self) -> None:
        """Forget pages that were not requested lately."""
        if len(self._kept) > MAX_KEPT:
            now = time.monotonic()
            for key in [key for key, page in self._kept.items() if now - page.kept_from > LOOK_SECONDS]:
                if not self._turns[key].locked():
                    del self._kept[key], self._turns[key]


def message_page(title: str, text: str) -> str:
    """Return a page of a few words, without numbers of a system."""
    return _rendered("message.html", title=title, text=text)


def _rendered(template: str, **model: Any) -> Markup:
    return Markup(_environment().get_template(template).render(model))  # noqa: S704 - Jinja has escaped it


@cache
def _environment() -> Environment:
    """Return the templates, which are compiled once in a process."""
    return Environment(
        loader=PackageLoader("papyra_contrib.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def status_of(snapshot: Snapshot, kind: str) -> dict[str, Any]:
    """Return the model of the header: the state, and the source of the numbers."""
    answer = snapshot.answer
    about = answer.get("about", {})
    statistics = answer.get("statistics")
    if statistics is None:
        state = "gone" if snapshot.gone else "record" if answer else "gone"
        places = [about.get("store")]
    else:
        state = "gone" if snapshot.gone else statistics["state"]
        pid = f"pid {about['pid']}" if about.get("pid") else None
        places = [statistics["loop"], statistics["facts"]["store"], pid]
    return {
        "system_id": answer.get("system_id", ""),
        "state": state,
        "tone": {"running": "good", "record": "plain"}.get(state, "odd"),
        "place": " · ".join(str(place) for place in places if place),
        "gone": snapshot.gone,
        "kind": kind,
    }


def _harmless(value: object) -> object:
    """Make a text printable before it is escaped. Markup that Jinja has rendered stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
