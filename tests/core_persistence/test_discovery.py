"""Backends of other distributions: found through entry points, and contained when they are broken."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from contextlib import aclosing

import pytest

from papyra.exceptions import PluginError, UnknownBackend
from papyra.persistence import InMemoryPersistence, open_backend
from papyra.persistence.registry import GROUP, backend_class, backend_problem, check_backend, recognize
from papyra.plugins import Plugin, PluginInfo, PluginStatus, find_plugins, inspect_plugin
from papyra.plugins import all_plugins as installed
from papyra.testing import register_backend

MODULE = """
from papyra.persistence import InMemoryPersistence, PersistenceBackend

class Good(InMemoryPersistence):
    name = "good"
    schemes = ("extra",)
    papyra_api = "1.7"

class Later(InMemoryPersistence):
    name = "later"
    papyra_api = "2.0"

class Unfinished(PersistenceBackend):
    name = "unfinished"

    async def record_event(self, event): ...

class NoBackend:
    pass

class Json(InMemoryPersistence):
    name = "json"
"""

METADATA = """\
Metadata-Version: 2.1
Name: Throw_Away
Version: 2.5
Requires-Dist: anyio>=4.7
Requires-Dist: Pytest>=8 ; extra == 'there'
Requires-Dist: no-such-library>=1 ; python_version > "3" and extra == "missing"
Provides-Extra: there
Provides-Extra: missing
"""

ENTRY_POINTS = """
[papyra.backends]
good = throwaway.backends:Good
later = throwaway.backends:Later
unfinished = throwaway.backends:Unfinished
nobackend = throwaway.backends:NoBackend
missing = throwaway.backends:Missing
nomodule = throwaway.nowhere:Backend
raising = throwaway.raising:Backend
exiting = throwaway.exiting:Backend
json = throwaway.backends:Json
memory = throwaway.backends:NoBackend
extra = throwaway.backends:Good [there]
lacking = throwaway.backends:Good [there, missing]

[console_scripts]
throwaway = throwaway.exiting:main
"""


@pytest.fixture
def site(tmp_path):
    """A folder with a distribution called Throw_Away, as an installer would have left it."""
    package = tmp_path / "throwaway"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "backends.py").write_text(MODULE)
    (package / "raising.py").write_text("raise ValueError('two\\nlines')")
    (package / "exiting.py").write_text("raise SystemExit(3)")
    info = tmp_path / "throw_away-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path


@pytest.fixture
def throwaway(site, monkeypatch):
    """That distribution, installed in this process."""
    monkeypatch.delenv("PAPYRA_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "throwaway"]:
        del sys.modules[name]


def inspected() -> dict[str, PluginInfo]:
    found: list[Plugin] = [plugin for plugin in installed([GROUP]) if plugin.distribution == "throw-away"]
    return {plugin.name: inspect_plugin(plugin, check_backend) for plugin in found}


@pytest.mark.usefixtures("throwaway")
class TestDistribution:
    async def test_a_good_backend_opens_by_its_scheme(self):
        async with aclosing(open_backend("good:?max_records=3")) as backend:
            assert type(backend).__module__ == "throwaway.backends"
            assert backend.retention.max_records == 3

    def test_a_ctrl_c_while_a_plugin_is_looked_at_is_not_contained(self, site):
        """Whether it comes in its import, as it says its API, or in a check."""

        def interrupt(_loaded):
            raise KeyboardInterrupt

        (site / "throwaway" / "raising.py").write_text("raise KeyboardInterrupt")
        (site / "throwaway" / "exiting.py").write_text(
            "class Api(type):\n"
            "    @property\n"
            "    def papyra_api(self): raise KeyboardInterrupt\n"
            "class Backend(metaclass=Api): ..."
        )
        for name in ("raising", "exiting"):
            with pytest.raises(KeyboardInterrupt):
                find_plugins(GROUP)[name].load()
        with pytest.raises(KeyboardInterrupt):
            inspect_plugin(find_plugins(GROUP)["good"], interrupt)

    def test_a_check_that_fails_in_any_way_is_the_reason(self):
        def fail(_loaded):
            raise SystemExit(3)

        info = inspect_plugin(find_plugins(GROUP)["good"], fail)
        assert (info.status, info.reason) == (PluginStatus.BROKEN, "checking it raised SystemExit: 3")

    def test_the_first_of_two_distributions_with_one_name_counts(self, tmp_path_factory, monkeypatch):
        again = tmp_path_factory.mktemp("again")
        info = again / "throw_away-3.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(METADATA.replace("2.5", "3.0"))
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        monkeypatch.setattr(sys, "path", [*sys.path, str(again)])
        assert {info.version for info in inspected().values()} == {"2.5"}

    def test_files_that_cannot_be_read_hide_no_other_distribution(self, site, caplog):
        caplog.set_level(logging.DEBUG, "papyra")
        for name in ("entry_points.txt", "METADATA"):
            info = site / f"unreadable_{name[:5]}-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Name: unreadable\n")
            (info / "entry_points.txt").write_text(f"[{GROUP}]\nlost = lost:Lost\n")
            (info / name).write_bytes(b"\xff\xfe")
        found = find_plugins(GROUP)
        assert found["good"].distribution == "throw-away"
        assert found["lost"].distribution == "unknown"
        assert "can't read the entry points of" in caplog.text

    def test_what_is_found_is_described_without_importing_it(self):
        plugin = find_plugins(GROUP)["good"]
        assert (plugin.distribution, plugin.version, plugin.target) == (
            "throw-away",
            "2.5",
            "throwaway.backends:Good",
        )
        assert "throwaway" not in sys.modules

    @pytest.mark.parametrize(
        ("scheme", "words"),
        [
            (
                "raising",
                r"'raising' of throw-away 2\.5 is broken: .*throwaway\.raising:Backend.*ValueError: two lines",
            ),
            ("exiting", "is broken: .*SystemExit: 3"),
            ("nomodule", "is broken: .*ModuleNotFoundError"),
            ("missing", "is broken: .*AttributeError"),
            ("later", "plugin API 2.0, this is 1.*install a version that fits"),
            ("nobackend", "is not a subclass of papyra.persistence.PersistenceBackend"),
            ("unfinished", "Unfinished does not define aclose, closed, compact, list_audits"),
        ],
    )
    def test_one_that_cannot_be_used_says_why(self, scheme, words):
        with pytest.raises(PluginError, match=words):
            open_backend(f"{scheme}:")
        assert backend_class("good").name == "good"  # and the others are none the worse for it

    def test_the_cause_of_a_broken_import_is_kept(self):
        with pytest.raises(PluginError) as caught:
            backend_class("exiting")
        assert isinstance(caught.value.__cause__, SystemExit)

    def test_each_is_reported_with_its_status(self):
        assert {name: info.status for name, info in inspected().items()} == {
            "good": PluginStatus.OK,
            "extra": PluginStatus.OK,
            "later": PluginStatus.INCOMPATIBLE,
            "unfinished": PluginStatus.BROKEN,
            "nobackend": PluginStatus.BROKEN,
            "missing": PluginStatus.BROKEN,
            "nomodule": PluginStatus.BROKEN,
            "raising": PluginStatus.BROKEN,
            "exiting": PluginStatus.BROKEN,
            "json": PluginStatus.SHADOWED,
            "memory": PluginStatus.SHADOWED,
        }
        good = inspected()["good"]
        assert (good.api, good.capabilities) == ("1.7", ("batch", "compact", "metrics"))
        assert good.load_seconds is not None
        assert inspected()["json"].reason == "papyra-json brings the same name"

    def test_our_own_names_cannot_be_taken(self):
        assert find_plugins(GROUP)["json"].distribution == "papyra-json"
        assert backend_class("memory") is InMemoryPersistence

    @pytest.mark.parametrize(
        ("allowed", "good", "sqlite"),
        [
            (None, True, True),
            ("", False, False),
            (" , ", False, False),
            ("good", True, False),
            ("Throw.Away", True, False),
            ("papyra-contrib", False, True),
            (" sqlite , throw-away ", True, True),
            ("go", False, False),
        ],
    )
    def test_papyra_plugins_limits_what_loads(self, monkeypatch, allowed, good, sqlite):
        if allowed is not None:
            monkeypatch.setenv("PAPYRA_PLUGINS", allowed)
        for name, expected in (("good", good), ("sqlite", sqlite)):
            if expected:
                assert backend_class(name).name == name
            else:
                with pytest.raises(PluginError, match=f"not in PAPYRA_PLUGINS; add '{name}'"):
                    backend_class(name)
        assert backend_class("memory") is InMemoryPersistence
        if not good:
            assert inspected()["good"].status is PluginStatus.DISABLED
            assert inspected()["good"].load_seconds is None
            assert "throwaway" not in sys.modules

    def test_a_plugin_of_an_extra_is_there_once_the_extra_is(self):
        found = find_plugins(GROUP)
        assert found["extra"].target == "throwaway.backends:Good"
        assert backend_class("extra").name == "good"
        assert "lacking" not in found
        assert "lacking" not in {plugin.name for plugin in installed([GROUP])}

    def test_an_unknown_scheme_lists_what_is_installed(self):
        with pytest.raises(
            UnknownBackend, match=r"'godd'.*installed are .*exiting, extra, good, json"
        ) as caught:
            open_backend("godd:")
        assert "pip install" not in str(caught.value)
        assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("scheme", "install"),
    [
        ("json", "pip install papyra-json"),
        ("rotating", "pip install papyra-json"),
        ("sqlite", "pip install 'papyra-contrib[sqlite]'"),
        ("redis", "pip install 'papyra-contrib[redis]'"),
    ],
)
def test_a_scheme_that_is_not_installed_names_the_distribution(monkeypatch, scheme, install):
    monkeypatch.setattr("papyra.persistence.registry.find_plugins", lambda _: {})
    with pytest.raises(UnknownBackend) as caught:
        open_backend(f"{scheme}:x")
    assert install in str(caught.value)
    assert "memory" in str(caught.value)


def test_it_works_from_pythonpath_in_a_new_process(site):
    script = "from papyra.persistence import open_backend; print(type(open_backend('good:')).__name__)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("PAPYRA_PLUGINS", None)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("Good\n", "")


# -- the door to papyra_json


def forget_door(monkeypatch, name):
    monkeypatch.delitem(sys.modules, f"papyra.persistence.{name}", raising=False)
    monkeypatch.delattr(f"papyra.persistence.{name}", raising=False)


def test_the_door_hands_on_what_papyra_json_brings():
    door = importlib.import_module("papyra.persistence.json")
    home = importlib.import_module("papyra_json")
    assert door.__all__ == ["JsonFilePersistence", "RotatingFilePersistence"]
    for name in door.__all__:
        assert getattr(door, name) is getattr(home, name)


def test_without_papyra_json_the_door_says_what_to_install(monkeypatch):
    forget_door(monkeypatch, "json")
    monkeypatch.setitem(sys.modules, "papyra_json", None)
    with pytest.raises(ImportError, match=r"pip install papyra-json$"):
        importlib.import_module("papyra.persistence.json")


@pytest.mark.parametrize("missing", ["papyra_contrib", "redis", "ssl"])
def test_without_its_library_the_door_to_redis_says_what_to_install(monkeypatch, missing):
    forget_door(monkeypatch, "redis")

    class Missing:
        __path__ = ()

        def __getattr__(self, name):
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setitem(sys.modules, "papyra_contrib.redis", Missing())
    with pytest.raises(ImportError) as caught:
        importlib.import_module("papyra.persistence.redis")
    assert ("pip install 'papyra-contrib[redis]'" in str(caught.value)) is (missing != "ssl")


def test_the_doors_open_from_the_package_and_other_names_are_an_error():
    package = importlib.import_module("papyra.persistence")
    assert package.JsonFilePersistence is importlib.import_module("papyra_json").JsonFilePersistence
    with pytest.raises(AttributeError, match=r"'papyra.persistence' has no attribute 'Nothing'"):
        _ = package.Nothing


def test_something_else_that_is_missing_is_named_as_it_is(monkeypatch):
    forget_door(monkeypatch, "json")
    for name in [name for name in sys.modules if name.partition(".")[0] == "papyra_json"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "orjson", None)
    with pytest.raises(ModuleNotFoundError, match="orjson") as caught:
        importlib.import_module("papyra.persistence.json")
    assert "pip install papyra-json" not in str(caught.value)


def test_an_object_that_is_not_a_class_is_not_a_backend():
    assert "not a subclass" in (backend_problem(InMemoryPersistence()) or "")
    assert backend_problem(InMemoryPersistence) is None


# -- which one is used


def _names(found):
    return {plugin.distribution: plugin for plugin in found if plugin.name == "tape"}


@pytest.fixture
def two_tapes(tmp_path, monkeypatch):
    """Two distributions that bring a backend of one name."""
    for distribution in ("papyra-tape", "papyra_tape.Two"):
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\ntape = nowhere.{folder.name[:11]}:Tape\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    "allowed", ["papyra-tape-two:*", "papyra_tape.two:tape", "papyra-tape-two", "json, Papyra-Tape-Two:*"]
)
def test_the_allow_list_is_applied_before_shadowing(two_tapes, monkeypatch, allowed):
    found = _names(installed([GROUP]))
    assert found["papyra-tape-two"].shadowed_by == "papyra-tape"
    monkeypatch.setenv("PAPYRA_PLUGINS", allowed)
    assert find_plugins(GROUP)["tape"].distribution == "papyra-tape-two"
    found = _names(installed([GROUP]))
    assert (found["papyra-tape-two"].shadowed_by, found["papyra-tape-two"].disabled) == (None, False)
    status = inspect_plugin(found["papyra-tape"], check_backend)
    assert (status.status, status.reason) == (PluginStatus.DISABLED, "not in PAPYRA_PLUGINS")


@pytest.mark.parametrize("allowed", ["", "papyra-tape-two:reel", "papyra-tape-two:", "other:*"])
def test_a_plugin_that_is_not_in_the_allow_list_does_not_load(two_tapes, monkeypatch, allowed):
    monkeypatch.setenv("PAPYRA_PLUGINS", allowed)
    assert all(plugin.disabled for plugin in _names(installed([GROUP])).values())
    with pytest.raises(PluginError, match="not in PAPYRA_PLUGINS"):
        backend_class("tape")


@pytest.mark.parametrize(
    ("name", "words"),
    [("Tape_Two", "can't be the scheme of a URL"), ("tape", "is not the class's name 'reel'")],
)
def test_the_name_of_an_entry_point_is_checked(tmp_path, monkeypatch, name, words):
    (tmp_path / "reels.py").write_text(
        "from papyra.persistence import InMemoryPersistence\n"
        "class Reel(InMemoryPersistence):\n    name = 'reel'\n    schemes = ('spool',)\n"
    )
    folder = tmp_path / "reels-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: reels\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        f"[{GROUP}]\n{name} = reels:Reel\nspool = reels:Reel\nreel = reels:Reel\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reels", raising=False)
    found = {
        one.name: inspect_plugin(one, check_backend)
        for one in installed([GROUP])
        if one.distribution == "reels"
    }
    assert found[name].status is PluginStatus.BROKEN
    assert words in found[name].reason
    assert found["spool"].status is found["reel"].status is PluginStatus.OK


def test_one_backend_that_cannot_look_at_a_file_hides_no_other(tmp_path, caplog):
    class Nervous(InMemoryPersistence):
        name = "nervous"

        @classmethod
        def recognizes(cls, path):
            raise ValueError("no such format")

    (tmp_path / "facts.ndjson").touch()
    with register_backend(Nervous):
        assert recognize(str(tmp_path / "facts.ndjson")) == f"json:{tmp_path}/facts.ndjson"
    assert f"the backend 'nervous' can't look at {tmp_path}/facts.ndjson: ValueError: no such" in caplog.text


# -- without installing


def test_a_registered_backend_opens_by_its_schemes_until_it_is_undone():
    class Reel(InMemoryPersistence):
        name = "reel"
        schemes = ("spool",)

    with register_backend(Reel) as kind:
        assert kind is Reel
        assert type(open_backend("spool:?max_records=3")) is Reel
        with register_backend(type("Other", (Reel,), {"name": "reel"})):
            assert type(open_backend("reel:")) is not Reel
        assert type(open_backend("reel:")) is Reel
    with pytest.raises(UnknownBackend):
        open_backend("reel:")


@pytest.mark.parametrize("kind", [object, type("Nameless", (InMemoryPersistence,), {"name": "No Scheme"})])
def test_what_cannot_be_a_backend_is_not_registered(kind):
    with pytest.raises(PluginError, match="can't register"):
        register_backend(kind)
