"""Settings: defaults, a module of the environment's choice, and how a system uses them."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import papyra
from papyra import Actor, ActorStopped, ActorSystem, Settings
from papyra import settings as process_settings
from papyra.exceptions import BackendURLError
from papyra.persistence import InMemoryPersistence
from papyra.persistence.json import JsonFilePersistence
from papyra.persistence.url import BackendURL
from papyra.settings import VARIABLE, FoundSetting, find_settings, load_settings

from .support import running


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PAPYRA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write a module and have the environment name it, or something in it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(source: str, target: str) -> None:
        name = target.partition(":")[0].partition(".")[0]
        (tmp_path / f"{name}.py").write_text(f"from papyra import Settings\n{source}\n")
        importlib.invalidate_caches()
        made.append(name)
        monkeypatch.setenv(VARIABLE, target)

    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_the_defaults_are_those_of_guarantee_19(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_settings()
    assert loaded == Settings() == Settings(None, 10_000, 1_000)
    monkeypatch.setenv(VARIABLE, "")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    "name", ["max_events", "max_dead_letters", "fact_buffer", "payload_limit", "blocking_threads"]
)
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True, None])
def test_sizes_are_whole_numbers_of_at_least_1(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("settings = Settings(max_events=7)", "mod_a"),
        ("class Settings(Settings):\n    max_events: int = 7\n    def __init__(self): super().__init__(max_events=7)", "mod_b"),
        ("mine = Settings(max_events=7)", "mod_c:mine"),
        ("import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Mine(Settings):\n    max_events: int = 7", "mod_d:Mine"),
        ("import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\nclass Mine(Settings):\n    max_events: int = 7", "mod_d:Mine"),
        ("class Mine(Settings):\n    def __init__(self): super().__init__(max_events=7)", "mod_j.Mine"),
        ("mine = Settings(max_events=7)", "mod_k.mine"),
    ],
)  # fmt: skip
def test_the_environment_names_a_module_or_an_object(
    module: Callable[[str, str], None], source: str, target: str
) -> None:
    module(source, target)
    assert load_settings().max_events == 7
    assert ActorSystem()._settings.max_events == 7


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("Settings = 1", "mod_e", "has no papyra.Settings called"),
        ("mine = 1", "mod_f:mine", "called 'mine'"),
        ("", "mod_g:absent", "called 'absent'"),
        ("", "mod_u", "mod_u has no papyra.Settings called 'settings' or 'Settings'"),
        ("import nowhere_to_be_found", "mod_h", "nowhere_to_be_found"),
        ("import nowhere_to_be_found", "mod_l.Mine", "nowhere_to_be_found"),
        ("", "mod_m.Absent", "mod_m has no papyra.Settings called 'Absent'"),
        ("", "mod_n.", "can't import 'mod_n.'"),
        ("", "mod_o.deeper.Mine", "can't import 'mod_o.deeper.*is not a package"),
        ("settings = Settings(max_events=0)", "mod_p", "max_events must be a whole number"),
    ],
)
def test_a_module_without_settings_is_an_import_error_that_says_so(
    module: Callable[[str, str], None], source: str, target: str, complaint: str
) -> None:
    module(source, target)
    with pytest.raises(ImportError, match=complaint) as caught:
        load_settings()
    assert target in str(caught.value)


def test_a_module_that_is_not_there_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no_such_module_at_all")
    with pytest.raises(ImportError, match=f"{VARIABLE}='no_such_module_at_all'"):
        load_settings()


def test_the_settings_of_the_process_are_loaded_when_looked_at(
    module: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_settings, "_loaded", None)
    module("settings = Settings(max_events=11)", "mod_i")
    assert "not loaded yet" in repr(papyra.settings)
    assert process_settings.max_events == 11
    assert "max_events=11" in repr(process_settings)
    with pytest.raises(AttributeError):
        _ = process_settings.no_such_setting


def test_a_name_in_a_module_of_a_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "conf_package" / "deep"
    package.mkdir(parents=True)
    (package / "settings.py").write_text(
        "from papyra import Settings\nclass Mine(Settings):\n    def __init__(self): super().__init__(max_events=7)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for target in ("conf_package.deep.settings.Mine", "conf_package.deep.settings:Mine"):
        monkeypatch.setenv(VARIABLE, target)
        assert load_settings().max_events == 7


@pytest.mark.parametrize("target", [".relative", "..", "a..b", ":Mine", " "])
def test_a_target_that_can_name_nothing_is_an_import_error(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, target)
    if not target.strip():
        assert load_settings() == Settings()
        return
    with pytest.raises(ImportError, match=re.escape(f"{VARIABLE}={target!r}")):
        load_settings()


def test_a_plain_class_whose_body_changes_a_default_has_to_be_a_dataclass() -> None:
    class Plain(Settings):
        max_events = 7

    class Below(Plain):
        pass

    for kind in (Plain, Below):
        with pytest.raises(TypeError, match=r"Plain changes max_events.*put @dataclass\(frozen=True\) above"):
            kind()


# -- the order


def found(name: str, **where: Any) -> list[tuple[object, str]]:
    return [(one.value, one.origin) for one in find_settings(**where) if one.name == name and not one.error]


def errors(**where: Any) -> dict[str, str]:
    return {one.name: str(one.error) for one in find_settings(**where) if one.error}


def test_what_goes_first(
    module: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "pyproject.toml"
    places = [(10_000, "default")]
    assert found("max_events", project=tmp_path) == places
    module("settings = Settings(max_events=1)", "mod_q")
    places.insert(0, (1, f"{VARIABLE}=mod_q"))
    assert found("max_events", project=tmp_path) == places
    assert load_settings(project=tmp_path).max_events == 1
    project.write_text("[tool.papyra]\nmax_events = 2\n")
    places.insert(0, (2, f"[tool.papyra] of {project}"))
    assert found("max_events", project=tmp_path) == places
    assert load_settings(project=tmp_path).max_events == 2
    monkeypatch.setenv("PAPYRA_MAX_EVENTS", "3")
    places.insert(0, (3, "PAPYRA_MAX_EVENTS"))
    assert found("max_events", project=tmp_path) == places
    assert load_settings(project=tmp_path).max_events == 3
    assert ActorSystem(settings=Settings(max_events=4))._settings.max_events == 4


def test_a_program_reads_no_project_that_it_did_not_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\nmax_events = 2\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()
    assert found("max_events") == [(10_000, "default")]
    assert load_settings(project=".").max_events == 2


def test_every_field_has_a_variable_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {
        "persistence": "memory:", "max_events": 2, "max_dead_letters": 3, "fact_buffer": 4, "payload_limit": 5,
        "blocking_threads": 6,
        "instruments": ("otel", "admin"), "cluster": "memory:shop",
        "dead_letter_payload": "type", "dead_letter_log_first": 0, "dead_letter_mute_seconds": 1.5,
    }  # fmt: skip
    assert list(values) == [field.name for field in dataclasses.fields(Settings)]
    lines = [
        f"{name} = {list(value) if isinstance(value, tuple) else value!r}\n" for name, value in values.items()
    ]
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\n" + "".join(lines))
    assert load_settings(project=tmp_path) == Settings(**values)
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, tuple) else value
        monkeypatch.setenv(f"PAPYRA_{name.upper()}", f" {text} ")
    assert load_settings() == Settings(**values)
    assert errors(project=tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dead_letter_payload", "hidden"), ("dead_letter_payload", ""), ("dead_letter_log_first", -1),
        ("dead_letter_log_first", 1.5), ("dead_letter_mute_seconds", -1), ("dead_letter_mute_seconds", "5m"),
        ("dead_letter_mute_seconds", float("nan")), ("dead_letter_mute_seconds", True),
    ],
)  # fmt: skip
def test_bad_settings_of_dead_letters_are_refused(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Settings(**{name: value})
    if value != "":
        monkeypatch.setenv(f"PAPYRA_{name.upper()}", str(value))
        with pytest.raises(ValueError, match=f"PAPYRA_{name.upper()} must be"):
            load_settings()


def test_the_url_of_an_unknown_scheme_in_a_project_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the store names what is missing."""
    monkeypatch.setenv("PAPYRA_PLUGINS", "")
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\npersistence = 'tape:facts'\n")
    assert load_settings(project=tmp_path).persistence == "tape:facts"


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAPYRA_PERSISTENCE", "PAPYRA_MAX_EVENTS", "PAPYRA_NONSENSE"):
        monkeypatch.setenv(name, "")
    assert load_settings() == Settings()
    assert errors() == {}


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "1_000", "\u0663"])
def test_a_bad_variable_is_refused_with_an_example(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPYRA_MAX_EVENTS", text)
    with pytest.raises(ValueError, match=r"PAPYRA_MAX_EVENTS must be a whole number.*as in 10000, not "):
        load_settings()
    with pytest.raises(ValueError, match="PAPYRA_MAX_EVENTS"):
        ActorSystem()
    assert list(errors()) == ["max_events"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[tool.papyra]\nmax_events = 0",
            "max_events in .tool.papyra. of .*pyproject.toml must be a whole number",
        ),
        ("[tool.papyra]\nmax_events = true", "must be a whole number of at least 1, as in 10000, not True"),
        ("[tool.papyra]\npersistence = 3", "persistence in .* must be a backend URL, as in json:"),
        ("[tool.papyra]\ninstruments = ['otel', 1]", "instruments in .* must be names of plugins, as in"),
        ("[tool.papyra", "pyproject.toml is not valid TOML: ."),
        ("tool = 1\n\xff", "pyproject.toml is not valid TOML: ."),
    ],
)
def test_a_bad_project_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=complaint):
        load_settings(project=tmp_path)
    assert len(errors(project=tmp_path)) == 1


def test_what_goes_before_makes_up_for_a_bad_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\nmax_events = 0\n")
    monkeypatch.setenv("PAPYRA_MAX_EVENTS", "3")
    assert load_settings(project=tmp_path).max_events == 3


@pytest.mark.parametrize("text", ["", "tool = 1", "[tool]\npapyra = 2", "[project]\nname = 'x'"])
def test_a_project_without_the_table_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\nmax_events = 2\n")
    assert load_settings(project=tmp_path / "deep").max_events == 2
    (tmp_path / "deep" / "pyproject.toml").write_text(text)
    assert load_settings(project=tmp_path / "deep") == Settings()


def test_misspelt_names_are_found_and_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPYRA_PERSISTANCE", "memory:")
    monkeypatch.setenv("PAPYRA_max_events", "3")
    monkeypatch.setenv("PAPYRA_PLUGINS", "json")
    (tmp_path / "pyproject.toml").write_text("[tool.papyra]\nmax-events = 2\nqqq = 1\n")
    assert load_settings(project=tmp_path) == Settings()
    assert errors(project=tmp_path) == {
        "PAPYRA_PERSISTANCE": "unknown; did you mean PAPYRA_PERSISTENCE?",
        "PAPYRA_max_events": errors()["PAPYRA_max_events"],
        "max-events": "unknown; did you mean max_events?",
        "qqq": "unknown; known are " + ", ".join(field.name for field in dataclasses.fields(Settings)),
    }


def test_settings_that_cannot_be_loaded_are_found_as_such(
    module: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module("1 / 0", "mod_r")
    broken = [one for one in find_settings() if one.error]
    assert [(one.name, one.origin, type(one.error)) for one in broken] == [
        ("", f"{VARIABLE}=mod_r", ZeroDivisionError)
    ]


def test_nothing_is_imported_before_its_turn(
    module: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module("", "mod_s")
    monkeypatch.setenv("PAPYRA_PERSISTENCE", "memory:")
    assert next(find_settings()) == FoundSetting("persistence", "memory:", "PAPYRA_PERSISTENCE")
    assert "mod_s" not in sys.modules


def test_a_variable_changes_a_copy_of_the_module_s_settings(
    module: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module(
        "class Mine(Settings):\n    region = 'eu'\n    def __init__(self): super().__init__(max_events=7)\nmine = Mine()",
        "mod_t:mine",
    )
    monkeypatch.setenv("PAPYRA_MAX_DEAD_LETTERS", "3")
    loaded: Any = load_settings()
    assert (loaded.region, loaded.max_events, loaded.max_dead_letters) == ("eu", 7, 3)
    assert sys.modules["mod_t"].mine.max_dead_letters == 1000


def test_a_relative_path_in_a_project_is_relative_to_it(tmp_path: Path) -> None:
    home = tmp_path / "50% a project"
    (home / "deep").mkdir(parents=True)
    for written, path in (
        ("json:./x?max_records=1", home / "./x"),
        ("sqlite:d/x", home / "d/x"),
        ("tape:../x", home / "../x"),
        ("json:/x", "/x"),
    ):
        (home / "pyproject.toml").write_text(f"[tool.papyra]\npersistence = '{written}'\n")
        url = load_settings(project=home / "deep").persistence
        assert url is not None
        assert Path(BackendURL.parse(url).path) == Path(path)
    for written in ("memory:", "redis://host/0", "redis:queue", "json:?max_records=1"):
        (home / "pyproject.toml").write_text(f"[tool.papyra]\npersistence = '{written}'\n")
        assert load_settings(project=home).persistence == written


# -- a system's


async def test_a_system_uses_the_settings_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "facts.ndjson"
    given = Settings(persistence=f"json:{path}", max_dead_letters=1)
    async with running(settings=given) as system:
        assert isinstance(system.persistence, JsonFilePersistence)
        ref = system.spawn(Actor)
        await system.stop(ref)
        for number in range(2):
            with pytest.raises(ActorStopped):
                await ref.tell(number)
        assert [letter.message for letter in system.dead_letters.messages] == [1]
    assert path.read_text().count("\n") == 6


async def test_an_argument_beats_the_settings() -> None:
    store = InMemoryPersistence()
    system = ActorSystem(persistence=store, settings=Settings(persistence="json:/nowhere"))
    assert system.persistence is store
    assert isinstance(ActorSystem(persistence="memory:").persistence, InMemoryPersistence)
    with pytest.raises(TypeError, match="PersistenceBackend or a backend URL"):
        ActorSystem(persistence=object())  # type: ignore[arg-type]  # on purpose
    with pytest.raises(BackendURLError):
        ActorSystem(persistence="memory:?nonsense=1")
    with pytest.raises(ValueError, match="system_id"):
        ActorSystem(system_id="a:b")
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="shutdown_timeout"):
            ActorSystem(shutdown_timeout=wrong)
