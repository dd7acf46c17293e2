"""`papyra plugins` and `papyra config view`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from .conftest import Runner, Site

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

STRANGE_HOOKS = """
from papyra import SystemHooks
from papyra.hookspecs import hookimpl
class Marked:
    @hookimpl
    def on_event(self, event): ...
    @hookimpl
    async def on_audit(self, report): ...
class Misspelt:
    @hookimpl
    def on_evnt(self, event): ...
class Greedy:
    @hookimpl
    def on_event(self, event, more): ...
marked, misspelt, greedy, plain = Marked(), Misspelt(), Greedy(), SystemHooks(on_failure=print)
"""


def test_every_kind_of_plugin_is_reported_with_its_reason(run: Runner, toy: Path, site: Site) -> None:
    site.add(
        "strange",
        """
        [papyra.backends]
        touchy = strange:Touchy
        old = strange:Old
        json = strange:Touchy
        leaving = leaving:x

        [papyra.hooks]
        nothing = strange:hooks
        marked = strange_hooks:marked
        misspelt = strange_hooks:misspelt
        greedy = strange_hooks:greedy
        plain = strange_hooks:plain
        """,
        strange=STRANGE,
        strange_hooks=STRANGE_HOOKS,
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
        "json": "broken",
        "leaving": "broken",
        "nothing": "broken",
        "marked": "ok",
        "misspelt": "broken",
        "greedy": "broken",
        "plain": "ok",
        "toy": "ok",
        "hello": "ok",
        "boom": "ok",
        "odd": "broken",
        "missing": "broken",
    }
    hooks = {name: info for (group, name, _), info in infos.items() if group == "papyra.hooks"}
    assert hooks["marked"]["capabilities"] == ["on_audit", "on_event"]
    assert hooks["plain"]["capabilities"] == ["on_failure"]
    assert hooks["nothing"]["reason"] == "it has no hooks; mark its functions with papyra.hookspecs.hookimpl"
    assert "there is no hook on_evnt; hooks are on_event, " in hooks["misspelt"]["reason"]
    assert "PluginValidationError" in hooks["greedy"]["reason"]
    toy_info = infos["papyra.backends", "toy", "papyra-toy"]
    assert set(toy_info) == {
        "name", "group", "distribution", "version", "target", "api", "capabilities", "status", "reason", "load_seconds",
    }  # fmt: skip
    assert {"scan", "recover", "compact"} <= set(toy_info["capabilities"])
    assert toy_info["load_seconds"] > 0
    assert infos["papyra.backends", "json", "papyra-json"]["status"] == "disabled"
    assert "SystemExit: 5" in infos["papyra.backends", "leaving", "strange"]["reason"]
    assert infos["papyra.commands", "plugins", "papyra-cli"]["status"] == "ok"
    assert "noise while importing" in done.stderr
    done = run("plugins", "-o", "json", PAPYRA_PLUGINS="papyra-json,strange:*")
    (json_of_strange,) = (
        info
        for info in json.loads(done.stdout)
        if (info["name"], info["distribution"]) == ("json", "strange")
    )
    assert (json_of_strange["status"], json_of_strange["reason"]) == (
        "shadowed",
        "papyra-json brings the same name",
    )


def test_check_exits_with_1_if_one_is_not_ok(invoke: Callable[..., Result], toy: Path) -> None:
    assert invoke("plugins").exit_code == 0
    table = invoke("plugins", "-o", "table", COLUMNS="220").stdout
    assert "papyra.backends" in table
    assert "ModuleNotFoundError" in table
    done = invoke("plugins", "--check")
    assert done.exit_code == 1
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


def test_config_view_points_at_malformed_backend_urls(run: Runner) -> None:
    done = run("config", "view", PAPYRA_PERSISTENCE="facts.ndjson")
    assert "persistence\tnot a backend URL: 'facts.ndjson' has no scheme; write 'scheme:path'" in done.stdout
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "status\t1 can't be used")
    secret = run("config", "view", "-o", "json", PAPYRA_PERSISTENCE="no_scheme://user:hush@host/0")
    assert "not a backend URL" in secret.stdout
    assert "hush" not in secret.stdout


def test_config_view_survives_what_it_cannot_use(run: Runner) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra")
    done = run("config", "view", PAPYRA_SETTINGS_MODULE="nowhere", PAPYRA_MAX_EVENTS="many")
    assert done.returncode == 0
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["value", "persistence", "-", "default", "yes"] in lines
    assert [line[2] for line in lines if line[1] == "max_events"] == [
        "PAPYRA_MAX_EVENTS must be a whole number of at least 1, as in 10000, not 'many'"
    ]
    broken = [line for line in lines if line[1] == "settings"]
    assert [line[3:] for line in broken] == [
        ["[tool.papyra]", "yes"],
        ["PAPYRA_SETTINGS_MODULE=nowhere", "yes"],
    ]
    assert broken[0][2].startswith(
        f"can't load [tool.papyra]: {run.folder}/pyproject.toml is not valid TOML: "
    )
    assert broken[1][2].startswith("PAPYRA_SETTINGS_MODULE='nowhere': can't import 'nowhere'")
    assert lines[-1] == ["status", "3 can't be used"]


def test_config_view_points_at_misspelt_names_and_masks_what_they_hold(run: Runner) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra]\nmax-events = 5\n")
    variables = {"PAPYRA_PERSISTANCE": "redis://u:pw@h/0", "PAPYRA_PLUGINS": "json"}
    done = run("config", "view", **variables)
    assert (
        "value\tPAPYRA_PERSISTANCE\tunknown; did you mean PAPYRA_PERSISTENCE?\tenvironment\tno\n"
        in done.stdout
    )
    assert "value\tmax-events\tunknown; did you mean max_events?\t[tool.papyra] of " in done.stdout
    assert done.stdout.endswith("value\tPAPYRA_PLUGINS\tjson\tenvironment\tyes\nstatus\t2 unknown\n")
    values = {
        item["name"]: item for item in json.loads(run("config", "view", "-o", "json", **variables).stdout)
    }
    assert values["PAPYRA_PERSISTANCE"]["value"] == "redis://u:***@h/0"
    assert values["max-events"]["value"] == 5


def test_config_view_shows_each_place_that_has_a_value(run: Runner) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra]\nmax_events = 2\n")
    (run.folder / "conf.py").write_text(
        "from papyra import Settings\nclass Mine(Settings):\n    def __init__(self): super().__init__(max_events=1)\n"
    )
    done = run("config", "view", PAPYRA_SETTINGS_MODULE="conf.Mine", PAPYRA_MAX_EVENTS="3")
    lines = [line for line in done.stdout.splitlines() if "\tmax_events\t" in line]
    assert lines == [
        "value\tmax_events\t3\tPAPYRA_MAX_EVENTS\tyes",
        f"value\tmax_events\t2\t[tool.papyra] of {run.folder}/pyproject.toml\tno",
        "value\tmax_events\t1\tPAPYRA_SETTINGS_MODULE=conf.Mine\tno",
    ]
    assert done.stdout.endswith("status\tok\n")


def test_the_allow_list_comes_before_shadowing_and_knows_distributions(run: Runner, site: Site) -> None:
    for owner in ("papyra-tape", "papyra-tape-two"):
        module = owner.replace("-", "_")
        site.add(
            owner,
            f"[papyra.backends]\ntape = {module}:Tape\n",
            **{
                module: "from papyra.persistence import InMemoryPersistence\nclass Tape(InMemoryPersistence): name = 'tape'\n"
            },
        )

    def status(allowed: str | None) -> dict[str, str]:
        env = {} if allowed is None else {"PAPYRA_PLUGINS": allowed}
        infos = json.loads(run("plugins", "-o", "json", **env).stdout)
        return {info["distribution"]: info["status"] for info in infos if info["name"] == "tape"}

    assert status(None) == {"papyra-tape": "ok", "papyra-tape-two": "shadowed"}
    for allowed in ("papyra-tape-two", "papyra-tape-two:*", "papyra-tape-two:tape"):
        assert status(allowed) == {"papyra-tape": "disabled", "papyra-tape-two": "ok"}
        assert run("persistence", "scan", "--backend", "tape:", PAPYRA_PLUGINS=allowed).returncode == 0
    assert status("papyra-tape-two:reel") == {"papyra-tape": "disabled", "papyra-tape-two": "disabled"}


def test_check_knows_names_that_no_url_can_have_and_names_that_differ(run: Runner, site: Site) -> None:
    code = (
        "from papyra.persistence import InMemoryPersistence\nclass Tape(InMemoryPersistence): name = 'tape'\n"
    )
    site.add(
        "papyra-tape",
        "[papyra.backends]\nTape_2 = tape:Tape\nreel = tape:Tape\ntape = tape:Tape\n",
        tape=code,
    )
    infos = {info["name"]: info for info in json.loads(run("plugins", "-o", "json").stdout)}
    assert (infos["tape"]["status"], infos["Tape_2"]["status"], infos["reel"]["status"]) == (
        "ok",
        "broken",
        "broken",
    )
    assert "'Tape_2' can't be the scheme of a URL" in infos["Tape_2"]["reason"]
    assert "'reel' is not the class's name 'tape'" in infos["reel"]["reason"]
    assert run("plugins", "--check").returncode == 1
