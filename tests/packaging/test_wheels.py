"""The wheels, each where nothing is installed that it does not bring, and the types as a user's checker sees
them.

Left out of an ordinary run, because it needs uv and a package registry: ``pytest -m wheels``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import papyra

pytestmark = pytest.mark.wheels

HERE = Path(__file__).parent
SEED = HERE / "seed"
VERSION = papyra.__version__
MODULES = {
    "papyra-core": "papyra",
    "papyra-json": "papyra_json",
    "papyra-cli": "papyra_cli",
    "papyra-contrib": "papyra_contrib",
}
# Runs program N of the seed as it was printed, with the names of the first one where it expects them.
RUN_SEED = """
import runpy, sys
names = runpy.run_path(sys.argv[1] + "/program_1.py")
runpy.run_path(f"{sys.argv[1]}/program_{sys.argv[2]}.py", init_globals=names, run_name="__main__")
"""


def run(*command, cwd=None, code=0):
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == code, f"{command}\n{ran.stdout}"
    return ran.stdout


@pytest.fixture(scope="session")
def uv(root):
    for found in (os.environ.get("UV"), shutil.which("uv"), root / ".tools" / "bin" / "uv"):
        if found and Path(found).exists():
            return str(found)
    pytest.fail("uv is not there; the first lines of README.md install it")


@pytest.fixture(scope="session")
def built(uv, root, tmp_path_factory):
    """A folder with what `uv build` makes of every distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv, "build", "--quiet", "--all-packages", "--out-dir", folder, cwd=root)
    return folder


@pytest.fixture(scope="session")
def install(uv, built, tmp_path_factory):
    """Make a fresh environment with some of the wheels; return the folder of its commands."""

    def make(*names):
        environment = tmp_path_factory.mktemp("environment")
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment)
        wheels = [
            f"{wheel(built, name.partition('[')[0])}{name.partition('[')[1]}{name.partition('[')[2]}"
            for name in names
        ]
        run(uv, "pip", "install", "--quiet", "--python", environment, "--find-links", built, *wheels)
        return environment / "bin"

    return make


def wheel(built, name):
    return built / f"{name.replace('-', '_')}-{VERSION}-py3-none-any.whl"


@pytest.mark.parametrize("name", MODULES)
def test_a_wheel_has_what_it_should_and_no_more(built, name):
    with zipfile.ZipFile(wheel(built, name)) as archive:
        files = archive.namelist()
        metadata = archive.read(f"{name.replace('-', '_')}-{VERSION}.dist-info/METADATA").decode()
    module = MODULES[name]
    assert f"{module}/py.typed" in files
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in files)
    assert {file.partition("/")[0] for file in files} == {
        module,
        f"{name.replace('-', '_')}-{VERSION}.dist-info",
    }
    assert [file for file in files if re.search(r"(^|/)tests?/|conftest|__pycache__|\.pyc$", file)] == []
    assert f"Version: {VERSION}\n" in metadata
    siblings = re.findall(r"^Requires-Dist: (papyra-\w+)(.*)$", metadata, re.MULTILINE)
    assert all(pin.partition(";")[0].strip() == f"=={VERSION}" for _, pin in siblings)
    assert len(siblings) == (name != "papyra-core")
    assert len(metadata.partition("\n\n")[2]) > 200, "the README is the page of the package on an index"


@pytest.mark.parametrize("name", MODULES)
def test_a_source_distribution_has_what_building_it_needs(built, name):
    stem = f"{name.replace('-', '_')}-{VERSION}"
    with tarfile.open(built / f"{stem}.tar.gz") as archive:
        files = archive.getnames()
    for needed in ("pyproject.toml", "README.md", "LICENSE", "PKG-INFO", f"src/{MODULES[name]}/py.typed"):
        assert f"{stem}/{needed}" in files


def test_core_alone(install, tmp_path):
    bin_ = install("papyra-core")
    assert run(bin_ / "python", "-c", RUN_SEED, SEED, 2, cwd=tmp_path) == "counter = 1\n"
    probe = """
        import importlib.util, papyra
        found = [n for n in ("click", "rich", "orjson", "redis", "papyra_json", "papyra_cli", "papyra_contrib")
                 if importlib.util.find_spec(n)]
        assert found == [], found
        assert papyra.__version__ == {version!r}
        for statement in ("from papyra.persistence.json import JsonFilePersistence",
                          "from papyra.persistence import open_backend; open_backend('json:x')",
                          "from papyra.persistence import open_backend; open_backend('rotating:x')"):
            try:
                exec(statement)
            except Exception as error:
                assert "pip install papyra-json" in str(error), error
                assert isinstance(error, ImportError) == ("import Json" in statement), repr(error)
            else:
                raise AssertionError(statement)
        try:
            papyra.persistence.open_backend("sqlite:x")
        except Exception as error:
            assert "pip install 'papyra-contrib[sqlite]'" in str(error), error
    """
    source = "\n".join(line[8:] for line in probe.format(version=VERSION).splitlines())
    run(bin_ / "python", "-W", "error", "-c", source, cwd=tmp_path)
    assert not (bin_ / "papyra").exists()


def test_core_and_json_and_then_the_command(install, tmp_path):
    bin_ = install("papyra-core", "papyra-json")
    assert run(bin_ / "python", "-W", "error", "-c", RUN_SEED, SEED, 3, cwd=tmp_path) == ""
    assert len((tmp_path / "papyra.ndjson").read_text("utf-8").splitlines()) == 4
    bin_ = install("papyra-core", "papyra-json", "papyra-cli")
    # As the seed prints it, with the command on the PATH.
    shown = run(
        "bash", "-c", f"PATH={bin_}:$PATH; papyra persistence compact --path ./papyra.ndjson", cwd=tmp_path
    )
    assert "before_records\t4" in shown
    shown = run(bin_ / "papyra", "plugins", "--check", cwd=tmp_path)
    assert "papyra-json" in shown
    assert "papyra-contrib" not in shown


def test_the_command_without_a_store_says_what_is_missing(install, tmp_path):
    bin_ = install("papyra-core", "papyra-cli")
    (tmp_path / "papyra.ndjson").touch()
    shown = run(bin_ / "papyra", "persistence", "scan", "--path", "papyra.ndjson", cwd=tmp_path, code=3)
    assert "pip install papyra-json" in shown


def test_core_and_contrib(install, tmp_path):
    bin_ = install("papyra-core", "papyra-contrib[sqlite]")
    source = """
import anyio, papyra
from papyra.persistence import open_backend
class Echo(papyra.Actor):
    async def receive(self, message):
        return message
async def main():
    async with papyra.ActorSystem(persistence=open_backend("sqlite:./papyra.db")) as system:
        assert await system.spawn(Echo).ask(1) == 1
    store = open_backend("sqlite:./papyra.db")
    print([event.event_type for event in await store.list_events()])
    await store.aclose()
anyio.run(main)
"""
    shown = run(bin_ / "python", "-W", "error", "-c", source, cwd=tmp_path)
    assert shown == "['SystemStarted', 'ActorStarted', 'ActorStopped', 'SystemStopped']\n"


@pytest.fixture(scope="module")
def consumer(install, tmp_path_factory):
    """A project of a user's, and an environment with everything in it but trio."""
    bin_ = install("papyra-core", "papyra-json", "papyra-cli", "papyra-contrib[sqlite]")
    folder = tmp_path_factory.mktemp("consumer")
    for name in ("good.py", "bad.py", "primitives.py", "primitives_bad.py"):
        shutil.copy(HERE / "consumer" / name, folder)
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', "utf-8")
    return folder, bin_ / "python"


def mypy(consumer, name, code, *flags):
    folder, python = consumer
    command = (sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--no-error-summary", *flags)
    return run(*command, "--python-executable", python, name, cwd=folder, code=code)


def pyright(consumer, name, code):
    folder, python = consumer
    return run(sys.executable, "-m", "pyright", "--pythonpath", python, name, cwd=folder, code=code)


def lines_that_say(name, word):
    lines = (HERE / "consumer" / name).read_text("utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith(f"# {word}")]


def reported_lines(name, shown):
    return sorted({int(number) for number in re.findall(rf"{name}:(\d+):.*?error", shown)})


@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("name", ["good.py", "primitives.py"])
def test_good_code_passes(consumer, checker, name):
    checker(consumer, name, 0)


def test_nothing_is_any_by_accident(consumer):
    shown = mypy(consumer, "good.py", 1, "--disallow-any-expr")
    assert reported_lines("good.py", shown) == lines_that_say("good.py", "Any"), shown


@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("name", ["bad.py", "primitives_bad.py"])
def test_each_mistake_is_reported_and_nothing_else(consumer, checker, name):
    shown = checker(consumer, name, 1)
    assert reported_lines(name, shown) == lines_that_say(name, "ERROR"), shown
