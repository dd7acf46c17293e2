"""Promises 7.2 and 7.4 of watch.md in a real Chromium: hostile texts, the keyboard, focus; and the CSS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ._dashboard_app import HOSTILE, TOKEN

CHROMIUM = shutil.which("chromium")
KEYS = {
    "o": "overview",
    "a": "actors",
    "t": "tree",
    "d": "letters",
    "l": "timeline",
    "s": "store",
    "g": "plugins",
}
NO_CHROMIUM = "Chromium is not installed; the distribution has a package of this name"


def browsers(test: Any) -> Any:
    """Mark a test that needs Chromium, whose start takes some seconds."""
    return pytest.mark.sweep(pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)(test))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Start the application; return the address of its dashboard."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_dashboard_app.py"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """Open a page that is signed in; nothing may be reported by it."""
    context = browser.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.add_init_script(
        "window.violations = 0; addEventListener('securitypolicyviolation', () => window.violations++)"
    )
    opened.goto(f"{address}?token={quote(TOKEN)}")
    opened.wait_for_selector("#live")
    yield opened
    assert complaints == []
    assert opened.evaluate("window.violations") == 0
    assert opened.evaluate("window.hurt") is None
    context.close()


def refreshed(page: Any) -> None:
    """Wait for the next numbers."""
    with page.expect_response(lambda response: "/live?" in response.url):
        pass
    page.wait_for_timeout(50)  # the swap follows the answer


@browsers
def test_escaping(page: Any, address: str):
    for view in (*KEYS.values(), f"actor?id={quote(HOSTILE)}", f"actors?find={quote(HOSTILE)}"):
        page.goto(f"{address}{view}")
        if view in ("overview", "letters", "timeline"):
            refreshed(page)
        assert page.locator("main img, main script").count() == 0, view
        assert page.evaluate("window.hurt") is None, view
        assert page.evaluate("window.violations") == 0, view
    page.goto(f"{address}letters")
    assert r"<script>window.hurt=1</script>\x1b[31m\u202e" in page.inner_text("main")


@browsers
def test_keyboard(page: Any):
    for key, view in KEYS.items():
        page.keyboard.press(key)
        page.wait_for_url(f"**/{view}")
        assert page.get_attribute("nav a[aria-current]", "href") == view
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("parent")  # its letters are keys of views, and of no effect here
    page.keyboard.press("Enter")
    page.wait_for_url("**/actors?find=parent")
    for _ in range(40):  # to the first link in the table
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/actor?id=shop*")
    assert "parent" in page.inner_text("h2")
    theme = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("T")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != theme
    page.keyboard.press("o")
    page.wait_for_url("**/overview")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != theme  # it is kept
    page.keyboard.press("p")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    paused = page.inner_html("#live")
    page.wait_for_timeout(1500)
    assert page.inner_html("#live") == paused
    page.keyboard.press("p")
    refreshed(page)


@browsers
def test_keyboard_focus_selection_and_scroll_survive_a_refresh(page: Any, address: str):
    page.set_viewport_size({"width": 900, "height": 300})
    page.goto(f"{address}actors?by=processed")
    link = page.locator("tbody a").nth(20)
    link.focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelectorAll('tbody tr')[5].cells[1])")
    kept = "JSON.stringify([document.activeElement.getAttribute('href'), String(getSelection()), scrollY])"
    before, handled = page.evaluate(kept), page.inner_text("tbody")
    assert "Echo" in before
    refreshed(page)
    refreshed(page)
    assert page.inner_text("tbody") != handled
    assert page.evaluate(kept) == before
    assert not before.endswith(",0]")


def stop(page: Any, actor: str) -> None:
    """Stop an actor, and wait for a page without it."""
    answer = page.evaluate(
        """async (actor) => (await fetch(`actions/stop?actor=${actor}`, {method: "POST", headers:
        {"X-Papyra-Token": document.querySelector('meta[name="papyra-token"]').content}})).json()""",
        actor,
    )
    assert answer["done"].startswith("stopped"), answer
    page.wait_for_function(
        "(name) => ![...document.querySelectorAll('tbody a')].some((link) => link.textContent === name)",
        arg=actor,
    )
    page.wait_for_timeout(50)  # what follows the swap


@browsers
def test_keyboard_focus_stays_with_its_link_while_rows_move(page: Any, address: str):
    page.goto(f"{address}actors?find=echo-&by=processed")
    names = page.locator("tbody a").all_inner_texts()
    active = [name for name in names if int(name.removeprefix("echo-")) < 50]
    link = page.get_by_role("link", name=active[20], exact=True)
    link.focus()
    focused = "[document.activeElement.textContent, document.activeElement.getAttribute('href')]"
    before = page.evaluate(focused)
    for above in (active[0], active[10]):
        stop(page, above)
        assert page.evaluate(focused) == before


@browsers
def test_keyboard_focus_goes_to_the_next_link_if_its_row_vanishes(page: Any, address: str):
    page.goto(f"{address}actors?find=echo-5")
    names = page.locator("tbody a").all_inner_texts()
    idle = [name for name in names if len(name) == 7]
    gone = idle[3]
    following = names[names.index(gone) + 1 :]
    page.get_by_role("link", name=gone, exact=True).focus()
    stop(page, gone)
    assert page.evaluate("document.activeElement.textContent") == following[0]
    last = page.locator("tbody a").all_inner_texts()[-1]
    page.get_by_role("link", name=last, exact=True).focus()
    stop(page, last)
    assert (
        page.evaluate("document.activeElement.textContent") == page.locator("tbody a").all_inner_texts()[-1]
    )


@browsers
def test_keyboard_focus_goes_to_the_bar_if_no_link_is_left(page: Any, address: str):
    page.goto(f"{address}actors?find=echo-52")
    page.get_by_role("link", name="echo-52", exact=True).focus()
    stop(page, "echo-52")
    assert page.evaluate("document.activeElement.textContent") == "show all"
    page.route("**/live?*", lambda route: route.fulfill(content_type="text/html", body="<p>Nothing.</p>"))
    page.wait_for_selector("text=Nothing.")
    page.wait_for_timeout(50)  # what follows the swap
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "page"


@browsers
def test_keyboard_a_typed_text_survives_a_refresh(page: Any, address: str):
    page.goto(f"{address}timeline")
    page.fill("#actor", "order-*")
    page.focus("#actor")
    refreshed(page)
    refreshed(page)
    assert page.input_value("#actor") == "order-*"
    assert page.evaluate("document.activeElement.id") == "actor"


@browsers
def test_keyboard_everything_has_a_label(page: Any, address: str):
    page.goto(f"{address}overview")
    refreshed(page)
    refreshed(page)
    sparks = page.locator("svg.spark")
    assert sparks.count() >= 6
    for index in range(sparks.count()):
        assert " now, between " in sparks.nth(index).get_attribute("aria-label")
    assert page.locator("th[aria-sort]").count() == 2
    assert page.locator("svg:not([role=img]):not([aria-hidden])").count() == 0
    assert (
        page.evaluate(
            "[...document.querySelectorAll('input, select')].every((one) => one.labels.length === 1)"
        )
        is True
    )


@browsers
def test_keyboard_an_action_from_the_page(page: Any, address: str):
    page.goto(f"{address}actor?id=doomed")
    page.wait_for_selector("button.act:visible")
    dialogs: list[str] = []

    def accept(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.accept()

    page.on("dialog", accept)
    page.focus("button.act")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=no actor 'doomed' any more")
    assert dialogs[0] == "Stop doomed?"
    assert dialogs[1].startswith("stopped shop:")


@browsers
def test_no_page_is_wider_than_a_small_window(page: Any, address: str):
    """Wide tables scroll by themselves, and a name of 3,000 letters is cut."""
    for width in (400, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        for view in (*KEYS.values(), f"actor?id={'w' * 300}"):
            page.goto(f"{address}{view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            if width == 1200 and view == "overview":
                refreshed(page)
                assert page.evaluate("document.documentElement.scrollHeight") < 3000


# -- contrast, from the CSS


def luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


CSS = files("papyra_contrib.dashboard").joinpath("static", "papyra.css").read_text("utf-8")


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme: int):
    colors = {
        name: values[theme]
        for name, *values in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\);", CSS)
    }
    assert {"page", "card", "field", "text", "quiet", "link", "bad", "odd", "good"} <= set(colors)
    for text in ("text", "quiet", "link", "bad", "odd", "good"):
        for ground in ("page", "card", "field"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for shape in ("link", "bad"):  # lines and bars
        for ground in ("card", "area", "track"):
            assert contrast(colors[shape], colors[ground]) >= 3, (shape, ground)
    assert contrast(colors["edge"], colors["card"]) >= 3
    assert contrast(colors["edge"], colors["page"]) >= 3


def test_contrast_knows_all_colors():
    """Every color is one of those above, so that none is left out of the computation."""
    rules = CSS.partition("\n}\n")[2]
    assert not re.findall(
        r"#[0-9a-f]{3,8}\b(?![\w-]*\s*\{)|\brgb|\bhsl", re.sub(r"#[a-z]+(?=[ :.{])", "", rules)
    )
    assert "opacity" not in rules.replace("opacity: 1", "")
