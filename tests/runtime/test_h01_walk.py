"""H1, H2: wherever user code misbehaves, it hurts nobody but its own actor, hook or caller.

The table in docs/design/runtime.md lists the places, and `places` has a scenario for each. The code raises
odd errors there, raises `SystemExit` if the table says that it is contained, and returns odd values. A
bystander answers all the same, and the close returns.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .odd import errors, values
from .places import SCENARIOS, Bad
from .support import Echo, running

PAGE = Path(__file__).parents[2] / "docs" / "design" / "runtime.md"


def ways(system_exit: bool, few: bool) -> list[Bad]:
    """Return code that misbehaves in each way, or in a `few` ways where each needs a system of its own."""
    raised: list[BaseException] = [*(errors()[:2] if few else errors())]
    if system_exit:
        raised.append(SystemExit("from user code"))
    return [*map(Bad, raised), *(Bad(None, value) for value in (values()[1:2] if few else values()))]


def table() -> dict[str, bool]:
    """Return the places of the table, and whether `SystemExit` is contained there."""
    section = PAGE.read_text("utf-8").split("## Where user code runs\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (contained|fatal|caller's) \| .+ \|$", section, re.MULTILINE)
    assert len(rows) == len(dict(rows)) == section.count("\n| ") - 2
    return {name: exits == "contained" for name, exits in rows}


def test_h01_each_place_has_a_scenario() -> None:
    assert list(table()) == list(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_h01_h02_user_code_hurts_nobody_else(name: str) -> None:
    scenario, options = SCENARIOS[name]
    misdeeds = ways(table()[name], few=options is not None)
    for together in [misdeeds] if options is None else [[bad] for bad in misdeeds]:
        async with running(seconds=20, **(options(together[0]) if options else {})) as system:
            bystander = system.spawn(Echo)
            for bad in together:
                await scenario(system, bad)
                assert bad.calls, "it has run"
                assert await bystander.ask("alive") == "alive"
            info = system.actor_info(bystander)
            assert info is not None
            assert (info.processed, info.restarts) == (len(together), 0)
        assert system.state == "closed"
