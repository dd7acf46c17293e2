"""What an import may pull in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = {
    *(
        "click",
        "rich",
        "orjson",
        "redis",
        "trio",
        "pluggy",
        "importlib_metadata",
        "sqlite3",
        "pytest",
        "hypothesis",
    ),
    *(
        "fastapi",
        "granian",
        "lilya",
        "litestar",
        "opentelemetry",
        "prometheus_client",
        "ravyn",
        "starlette",
        "uvicorn",
    ),
    *("papyra_json", "papyra_cli", "papyra_contrib", "papyra.testing", "papyra.hookspecs"),
}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print('\\n'.join(set(sys.modules) - before))"
    environment = {**os.environ, "TEST_MODE": ""}  # a mode would load asyncio before
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.split())


def test_import_papyra_loads_no_plugin_and_nothing_heavy():
    assert loaded_by("import papyra") & HEAVY == set()


def test_a_system_without_a_cluster_loads_nothing_of_one():
    loaded = loaded_by("import papyra; papyra.ActorSystem()")
    assert {
        "papyra.cluster",
        "papyra._runtime.local_system",
        "papyra._runtime.process.background",
    } & loaded == set()


def test_a_system_in_memory_loads_no_plugin_of_another_distribution():
    loaded = loaded_by("import papyra; papyra.ActorSystem()")
    assert [
        name for name in ("papyra_json", "papyra_cli", "papyra_contrib", "orjson", "click") if name in loaded
    ] == []


@pytest.mark.parametrize("scheme", ["json", "rotating", "sqlite", "redis"])
def test_opening_one_store_loads_no_other(scheme, tmp_path):
    home = {"json": "papyra_json", "rotating": "papyra_json"}.get(scheme, f"papyra_contrib.{scheme}")
    loaded = loaded_by(
        f"from papyra.persistence import open_backend; open_backend('{scheme}:{tmp_path / 'store'}')"
    )
    assert home in loaded
    others = {
        "papyra_json",
        "papyra_contrib.redis",
        "papyra_contrib.sqlite",
        "papyra_cli",
        "click",
        "rich",
    } - {home}
    assert sorted(others & loaded) == []


def test_the_command_loads_no_command_before_it_runs_one():
    loaded = loaded_by("import papyra_cli._main")
    assert sorted(name for name in loaded if name.startswith("papyra_cli.commands.")) == []
    assert "papyra_json" not in loaded


def test_the_help_of_the_command_loads_no_instrument_and_no_web_framework():
    command = [sys.executable, "-X", "importtime", "-m", "papyra_cli", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "papyra_cli._main" in loaded
    wanted = {
        "fastapi",
        "opentelemetry",
        "prometheus_client",
        "starlette",
        "textual",
        "uvicorn",
        "papyra_contrib",
    }
    assert wanted & loaded == set()


def test_an_instrument_that_is_not_named_is_not_imported():
    loaded = loaded_by(
        "import anyio, papyra\nasync def main():\n    async with papyra.ActorSystem(): pass\nanyio.run(main)"
    )
    assert {"opentelemetry", "prometheus_client", "papyra_contrib"} & loaded == set()
