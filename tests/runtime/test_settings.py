"""Settings: defaults, a module of the environment's choice, and how a system uses them."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import papyra
from papyra import Actor, ActorStopped, ActorSystem, Settings
from papyra import settings as process_settings
from papyra.exceptions import BackendURLError
from papyra.persistence import InMemoryPersistence
from papyra.persistence.json import JsonFilePersistence
from papyra.settings import VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write a module and have the environment name it, or something in it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(source: str, target: str) -> None:
        name = target.partition(":")[0]
        (tmp_path / f"{name}.py").write_text(f"from papyra import Settings\n{source}\n")
        importlib.invalidate_caches()
        made.append(name)
        monkeypatch.setenv(VARIABLE, target)

    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_the_defaults_are_those_of_guarantee_19(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    loaded = load_settings()
    assert loaded == Settings() == Settings(None, 10_000, 1_000)
    monkeypatch.setenv(VARIABLE, "")
    assert load_settings() == Settings()


@pytest.mark.parametrize("name", ["max_events", "max_dead_letters", "fact_buffer", "payload_limit"])
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
        ("import nowhere_to_be_found", "mod_h", "nowhere_to_be_found"),
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


@pytest.mark.anyio
async def test_a_system_uses_the_settings_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "facts.ndjson"
    given = Settings(persistence=f"json:{path}", max_dead_letters=1)
    with anyio.fail_after(5):
        async with ActorSystem(settings=given) as system:
            assert isinstance(system.persistence, JsonFilePersistence)
            ref = system.spawn(Actor)
            await system.stop(ref)
            for number in range(2):
                with pytest.raises(ActorStopped):
                    await ref.tell(number)
            assert [letter.message for letter in system.dead_letters.messages] == [1]
    assert path.read_text().count("\n") == 4


@pytest.mark.anyio
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
