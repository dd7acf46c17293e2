"""`papyra plugins` and `papyra config view`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Runner, Site

STRANGE = """
import sys
print("noise while importing")
class Meta(type):
    def __getattr__(cls, name):
        raise RuntimeError("touched")
class Touchy(metaclass=Meta):
    pass
class Old:
    papyra_api = "0.9"
hooks = object()
"""


def test_every_kind_of_plugin_is_told_with_its_reason(run: Runner, toy: Path, site: Site) -> None:
    site.add(
        "strange",
        """
        [papyra.backends]
        touchy = strange:Touchy
        old = strange:Old
        json = strange:Touchy
        leaving = leaving:x

        [papyra.hooks]
        watching = strange:hooks
        """,
        strange=STRANGE,
        leaving="raise SystemExit(5)",
    )
    done = run("plugins", "-o", "json", PAPYRA_PLUGINS="papyra-toy,strange")
    assert done.returncode == 0
    infos = {(info["group"], info["name"], info["distribution"]): info for info in json.loads(done.stdout)}
    status = {
        name: info["status"] for (_, name, owner), info in infos.items() if owner in ("strange", "papyra-toy")
    }
    assert status == {
        "touchy": "broken",
        "old": "incompatible",
        "json": "shadowed",
        "leaving": "broken",
        "watching": "ok",
        "toy": "ok",
        "hello": "ok",
        "boom": "ok",
        "odd": "broken",
        "missing": "broken",
    }
    toy_info = infos["papyra.backends", "toy", "papyra-toy"]
    assert set(toy_info) == {
        "name", "group", "distribution", "version", "target", "api", "capabilities", "status", "reason", "load_seconds",
    }  # fmt: skip
    assert {"scan", "recover", "compact"} <= set(toy_info["capabilities"])
    assert toy_info["load_seconds"] > 0
    assert infos["papyra.backends", "json", "papyra-json"]["status"] == "disabled"
    assert "papyra-json brings the same name" in infos["papyra.backends", "json", "strange"]["reason"]
    assert "SystemExit: 5" in infos["papyra.backends", "leaving", "strange"]["reason"]
    assert infos["papyra.commands", "plugins", "papyra-cli"]["status"] == "ok"
    assert "noise while importing" in done.stderr


def test_check_exits_with_1_if_one_is_not_ok(run: Runner, toy: Path) -> None:
    assert run("plugins").returncode == 0
    table = run("plugins", "-o", "table", COLUMNS="220").stdout
    assert "papyra.backends" in table
    assert "ModuleNotFoundError" in table
    done = run("plugins", "--check")
    assert done.returncode == 1
    assert (
        "plugin\tmissing\tpapyra.commands\tpapyra-toy 1.0\ttoy_nowhere:command\t-\t-\tbroken\t" in done.stdout
    )


def test_config_view_shows_every_value_and_where_it_came_from(run: Runner) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra]\npersistence = 'redis://u:pw@h/0'\n")
    (run.folder / "conf.py").write_text(
        "from papyra.settings import Settings\nsettings = Settings(max_events=7)\n"
    )
    done = run("config", "view", "-o", "json", PAPYRA_SETTINGS_MODULE="conf", PAPYRA_PERSISTENCE="memory:")
    assert done.returncode == 0
    values = [
        (item["name"], item["value"], item["origin"], item["used"])
        for item in json.loads(done.stdout)
        if item["name"] in ("persistence", "max_events", "PAPYRA_SETTINGS_MODULE")
    ]
    assert values == [
        ("persistence", "memory:", "PAPYRA_PERSISTENCE", True),
        ("persistence", "redis://u:***@h/0", f"[tool.papyra] of {run.folder / 'pyproject.toml'}", False),
        ("max_events", 7, "PAPYRA_SETTINGS_MODULE=conf", True),
        ("PAPYRA_SETTINGS_MODULE", "conf", "environment", True),
    ]


def test_config_view_survives_what_it_can_t_read(run: Runner) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra")
    done = run("config", "view", PAPYRA_SETTINGS_MODULE="nowhere")
    assert done.returncode == 0
    assert "can't read" in done.stdout
    assert "PAPYRA_SETTINGS_MODULE=nowhere" in done.stdout
    assert "status\t3 can't be read\n" in done.stdout
