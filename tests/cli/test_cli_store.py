"""Which store a command works on."""

from __future__ import annotations

import errno
import gzip
import importlib.util
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import anyio
import click
import pytest
from click.testing import Result

from papyra.persistence import InMemoryPersistence, open_backend
from papyra.persistence.models import PersistedEvent
from papyra.persistence.url import BackendURL
from papyra_cli._errors import Failure
from papyra_cli._store.choose import Store, choose_store, configured_store, store_at

from .conftest import Runner, Site, Terminal


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PAPYRA_PERSISTENCE", "PAPYRA_SETTINGS_MODULE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["facts.ndjson", "a b", "50%", "%41", "what?x=1", "a#b", "a&b=c", "žluť", "./x", "-", "a+b"]
)
def test_any_file_name_reaches_the_backend_unchanged(folder: Path, name: str) -> None:
    (folder / name).touch()
    for path in (name, str(folder / name)):
        url = BackendURL.parse(store_at(path).with_options({"max_records": 5}).url)
        assert (url.scheme, url.path, url.options) == ("json", path, {"max_records": "5"})


@pytest.mark.parametrize("slashes", ["/", "//", "///"])
def test_leading_slashes_are_not_an_authority(folder: Path, slashes: str) -> None:
    (folder / "x").touch()
    path = slashes + str(folder / "x").lstrip("/")
    assert Path(BackendURL.parse(store_at(path).url).path).samefile(folder / "x")


_EVENT = {
    "kind": "event",
    "system_id": "local",
    "actor_address": "local:1",
    "event_type": "ActorStarted",
    "payload": {},
}


def _write(path: Path, *moments: float, numbered: int | None = None) -> None:
    """Write events of these times, with a ``seq`` from ``numbered`` on."""
    records = [_EVENT | {"timestamp": moment} for moment in moments]
    if numbered is not None:
        records = [record | {"seq": seq} for seq, record in enumerate(records, numbered)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_file_with_rotated_siblings_is_a_rotating_store(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("f.lock", "f.2.tmp", "f.20260701", "f.09", "g.1"):
        (folder / name).touch()
    _write(folder / "f.2", 1, 2)
    _write(folder / "f.1", 2, 3.5)
    _write(folder / "f", 4)
    assert store_at("f").url == "rotating:f?max_files=auto"
    for beginning in ("", '{"kind":"event","ti'):  # just rotated, or torn just after
        (folder / "f").write_text(beginning)
        assert store_at("f").url == "rotating:f?max_files=auto"
    (folder / "f").unlink()
    assert store_at("f").url == "rotating:f?max_files=auto"
    assert capsys.readouterr().err == ""


def test_the_sample_set_is_a_rotating_store() -> None:
    # Of the published package: its lines have no seq.
    sample = Path(__file__).parents[1] / "json" / "data" / "published-rotating.ndjson"
    assert store_at(str(sample)).url == f"rotating:{quote(str(sample))}?max_files=auto"


def test_numbers_go_before_times_and_a_torn_last_line_is_passed_over(folder: Path) -> None:
    _write(folder / "f.1", 9, 9, numbered=1)
    with (folder / "f.1").open("a") as file:
        file.write('{"kind":"event","timestamp":')
    _write(folder / "f", 5, numbered=3)
    assert store_at("f").url == "rotating:f?max_files=auto"
    _write(folder / "f", 10, numbered=2)
    assert store_at("f").url == "json:f"


def test_a_last_line_longer_than_one_read_is_found(folder: Path) -> None:
    _write(folder / "f.1", 1)
    with (folder / "f.1").open("a") as file:
        file.write(json.dumps(_EVENT | {"payload": "x" * 300_000, "timestamp": 7}) + "\n")
    _write(folder / "f", 6)
    assert store_at("f").url == "json:f"
    _write(folder / "f", 7)
    assert store_at("f").url == "rotating:f?max_files=auto"


@pytest.mark.parametrize(
    ("siblings", "reason"),
    [
        ({"f.1": [5.0, 6.0]}, "f does not go on where f.1 ends"),
        ({"f.1": [5.0]}, "f does not go on where f.1 ends"),
        ({"f.1": [3.0], "f.2": [2.0, 4.0]}, "f.1 does not go on where f.2 ends"),
        ({"f.2": [3.0]}, "their numbers do not count up from 1"),
        ({"f.1": [3.0], "f.3": [1.0]}, "their numbers do not count up from 1"),
        ({"f.1": []}, "f.1 holds no record"),
    ],
)
def test_what_is_only_named_like_a_rotation_is_left_alone(
    folder: Path, caplog: pytest.LogCaptureFixture, siblings: dict[str, list[float]], reason: str
) -> None:
    for name, moments in {"f": [5.0], **siblings}.items():
        _write(folder / name, *moments)
    assert store_at("f").url == "json:f"
    names = ", ".join(siblings)
    (told,) = caplog.messages
    assert told == (
        f"{names}: not read, because they are not rotations of f ({reason}). "
        "If they are, give --backend rotating:f"
    )


def test_long_files_without_a_record_are_searched_for_a_while_only(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papyra_json._fileset.recognize.MAX_SEARCH_BYTES", 300_000)
    text = "a line of a log\n" * 40_000
    for record, begin, end in ((text, "", ""), ("", text, text)):  # far from the end, and from both ends
        _write(folder / "f.1", 3, 9)  # the last one does not fit to f
        own = (folder / "f.1").read_text()
        (folder / "f.1").write_text(begin + own + end + record)
        _write(folder / "f", 5)
        assert store_at("f").url == ("rotating:f?max_files=auto" if record else "json:f")


def test_a_file_that_cannot_be_read_is_left_to_the_store_to_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "f").write_bytes(b"\x7fELF\0\1")
    with pytest.raises(Failure, match="no installed backend recognizes f"):
        store_at("f")

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("papyra_json._segment.segment.Segment.open", fail)
    assert store_at("f").url == "json:f"


def test_a_set_that_lacks_a_number_is_one_store_if_its_records_are_numbered(folder: Path) -> None:
    """A rotation was interrupted, or a file was lost: the command must not overlook the rest at 3 a.m."""
    _write(folder / "f.7", 1, 2, numbered=1)
    _write(folder / "f.2", 3, 4, numbered=5)
    _write(folder / "f", 5, numbered=7)
    assert store_at("f").url == "rotating:f?max_files=auto"
    (folder / "f").unlink()
    assert store_at("f").url == "rotating:f?max_files=auto"
    _write(folder / "f", 5, numbered=6)  # no continuation
    assert store_at("f").url == "json:f"


def test_a_file_that_is_made_at_that_moment_is_not_called_a_foreign_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recognize(path: str) -> None:
        Path(path).touch()

    monkeypatch.setattr("papyra_cli._store.choose.recognize", recognize)
    with pytest.raises(Failure, match="there is no file f; check --path"):
        store_at("f")


async def _fill(url: str) -> None:
    store = open_backend(url)
    for number in range(14):
        event = PersistedEvent("shop", "shop:1", "ActorStarted", {}, 1_700_000_000.0 + number)
        await store.record_event(event)
    await store.aclose()


async def _has_anomalies(url: str) -> bool:
    store = open_backend(url)
    report = await store.scan()
    await store.aclose()
    return report is not None and report.has_anomalies


def _damaged(whole: bytes, damage: str) -> bytes:
    size = len(whole)
    return {
        "middle": whole[: size // 2] + bytes([whole[size // 2] ^ 0x10]) + whole[size // 2 + 1 :],
        "first line": whole[:60] + bytes(20) + whole[80:],
        "last line": whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:],
        "zeros": bytes(size),
        "cut": whole[: size // 2 - 20],
    }[damage]


@pytest.mark.parametrize("victim", ["f", "f.1", "f.2", "f.3"])
@pytest.mark.parametrize("damage", ["middle", "first line", "last line", "zeros", "cut"])
@pytest.mark.parametrize("compress", ["", "&compress=gzip"])
def test_a_damaged_set_is_still_one_store(
    folder: Path, capsys: pytest.CaptureFixture[str], compress: str, damage: str, victim: str
) -> None:
    """Left alone as a stranger, the damaged file would take the others with it, and a scan would find
    nothing.
    """
    anyio.run(_fill, f"rotating:f?max_bytes=600&max_files=4{compress}")
    file = next(path for path in (folder / victim, folder / f"{victim}.gz") if path.exists())
    file.write_bytes(_damaged(file.read_bytes(), damage))
    assert store_at("f").url == "rotating:f?max_files=auto"
    assert capsys.readouterr().err == ""
    assert anyio.run(_has_anomalies, store_at("f").url)


def test_a_pipe_or_a_folder_named_like_a_rotation_is_none(folder: Path) -> None:
    _write(folder / "f", 5)
    os.mkfifo(folder / "f.1")
    assert store_at("f").url == "json:f"
    (folder / "f.1").unlink()
    (folder / "f.1").mkdir()
    assert store_at("f").url == "json:f"


def test_a_missing_file_with_strangers_beside_it_is_an_error(folder: Path) -> None:
    (folder / "f.1").write_text("notes\n")
    with pytest.raises(Failure, match=r"there is no file f; check --path"):
        store_at("f")


def test_a_set_larger_than_the_default_is_opened_as_large_as_it_is(folder: Path) -> None:
    for number in range(1, 8):
        _write(folder / f"f.{number}", 10 - number)
    _write(folder / "f", 10)
    assert store_at("f").url == "rotating:f?max_files=auto"


def test_a_path_that_is_not_there_is_an_error_and_creates_nothing(
    invoke: Callable[..., Result], run: Runner
) -> None:
    for command in (
        ["persistence", "scan"],
        ["persistence", "inspect"],
        ["persistence", "compact", "--dry-run"],
    ):
        done = invoke(*command, "--path", "none.ndjson")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
        assert "there is no file none.ndjson; check --path" in done.stderr
    assert list(run.folder.iterdir()) == []


def test_a_database_is_opened_as_one_and_not_taken_for_damaged_lines(
    invoke: Callable[..., Result], run: Runner
) -> None:
    database = sqlite3.connect(run.folder / "f.db")
    database.execute("CREATE TABLE facts (fact)")
    database.close()
    before = (run.folder / "f.db").read_bytes()
    done = invoke("persistence", "recover", "--mode", "repair", "--yes", "--path", "f.db")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "f.db is an SQLite database of another program" in done.stderr
    assert (run.folder / "f.db").read_bytes() == before
    anyio.run(_fill, f"sqlite:{run.folder}/own.db")
    assert store_at(str(run.folder / "own.db")).url == f"sqlite:{quote(str(run.folder))}/own.db"


KV_BACKEND = '''
"""A third party's store in a file of its own format, which begins with KV1."""
import os
from pathlib import Path
import anyio
from papyra.persistence import InMemoryPersistence
from papyra.persistence.url import BackendURL, file_url

class KV(InMemoryPersistence):
    name, schemes, in_files = "kv", ("kv", "keyvalue"), True

    @classmethod
    def recognizes(cls, path):
        file = Path(path)
        return file_url("kv", path) if file.is_file() and file.read_bytes().startswith(b"KV1") else None

    @classmethod
    def from_url(cls, url):
        self = cls()
        self.place = BackendURL.parse(url).path
        return self

    async def scan(self, *, progress=None):
        print("opened", self.place)
        if "slow" in self.place:
            progress(500_000, 2_000_000)
            await anyio.sleep(600)
        return await super().scan()
'''


@pytest.fixture
def kv(run: Runner, site: Site) -> Path:
    """Install a third party's store in files, and make a file of it."""
    site.add("papyra-kv", "[papyra.backends]\nkv = kv_backend:KV\n", kv_backend=KV_BACKEND)
    (run.folder / "facts.kv").write_bytes(b"KV1 and lines\n")
    return run.folder / "facts.kv"


def test_r13_a_third_party_store_in_a_file_is_recognized_by_its_path(
    invoke: Callable[..., Result], kv: Path
) -> None:
    done = invoke("persistence", "scan", "--path", "facts.kv")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "status\tclean\n", "opened facts.kv\n")


def test_r13_an_alias_opens_the_store_and_a_relative_path_is_relative_to_the_project(
    run: Runner, kv: Path
) -> None:
    (run.folder / "pyproject.toml").write_text("[tool.papyra]\npersistence = 'keyvalue:facts.kv'\n")
    (run.folder / "deep").mkdir()
    run.folder = run.folder / "deep"
    assert run("persistence", "scan").stderr == f"opened {kv}\n"


def test_r13_a_missing_file_of_a_third_party_store_is_noted(invoke: Callable[..., Result], kv: Path) -> None:
    done = invoke("doctor", "run", "--backend", "kv:none")
    assert "none does not exist yet" in done.stderr


def test_r13_progress_of_a_third_party_store_in_files_is_in_bytes(
    run: Runner, kv: Path, terminal: Callable[..., Terminal]
) -> None:
    kv.rename(run.folder / "slow.kv")
    shell = terminal("persistence", "scan", "--path", "slow.kv", progress=True)
    shell.wait_for("500.0 KB of 2.0 MB")
    shell.interrupt()
    assert shell.finish() == 130


def test_r13_a_backend_says_its_schemes_and_options() -> None:
    from papyra_contrib.sqlite import SQLitePersistence
    from papyra_json import JsonFilePersistence

    assert (JsonFilePersistence.schemes, JsonFilePersistence.in_files) == (("json",), True)
    assert {"max_records", "max_age_seconds", "max_total_bytes"} <= set(SQLitePersistence.options)
    assert not InMemoryPersistence.in_files


def test_a_file_of_another_format_is_not_a_store(invoke: Callable[..., Result], run: Runner) -> None:
    (run.folder / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    done = invoke("persistence", "recover", "--mode", "repair", "--yes", "--path", "picture")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no installed backend recognizes picture as a store" in done.stderr


def test_a_name_that_no_url_can_hold_is_refused_rather_than_mistaken(folder: Path) -> None:
    name = os.fsdecode(b"a\xff")
    (folder / name).touch()
    with pytest.raises(Failure, match="is not UTF-8"):
        store_at(name)


def test_path_and_backend_together_are_refused() -> None:
    with pytest.raises(click.UsageError, match="name two stores"):
        choose_store("x", "memory:")


def test_without_any_store_the_error_says_the_ways() -> None:
    with pytest.raises(click.UsageError) as caught:
        choose_store(None, None)
    for way in ("--path", "--backend", "PAPYRA_PERSISTENCE", "[tool.papyra]", "PAPYRA_SETTINGS_MODULE"):
        assert way in caught.value.message


def test_a_misspelt_name_is_pointed_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pyproject.toml").write_text("[tool.papyra]\npersistance = 'memory:'\nmax-events = 1\n")
    monkeypatch.setenv("PAPYRA_PERSISTANCE", "memory:")
    with pytest.raises(click.UsageError) as caught:
        choose_store(None, None)
    assert (
        "PAPYRA_PERSISTANCE (environment) is unknown; did you mean PAPYRA_PERSISTENCE?"
        in caught.value.message
    )
    assert f"persistance ([tool.papyra] of {folder}/pyproject.toml) is unknown" in caught.value.message
    assert "max-events" not in caught.value.message


def test_no_settings_are_imported_where_something_goes_first(run: Runner) -> None:
    (run.folder / "raising.py").write_text("1 / 0\n")
    done = run("persistence", "scan", PAPYRA_SETTINGS_MODULE="raising", PAPYRA_PERSISTENCE="memory:")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "conf_for_cli.py").write_text(
        "from papyra.settings import Settings\nsettings = Settings(persistence='s:')\n"
    )
    monkeypatch.setenv("PAPYRA_SETTINGS_MODULE", "conf_for_cli")
    monkeypatch.syspath_prepend(folder)
    assert configured_store() == Store("s:", "PAPYRA_SETTINGS_MODULE=conf_for_cli")
    project = folder / "pyproject.toml"
    project.write_text("[tool.papyra]\npersistence = 'p:'\n")
    assert configured_store() == Store("p:", f"[tool.papyra] of {project}")
    monkeypatch.setenv("PAPYRA_PERSISTENCE", "e:")
    assert configured_store() == Store("e:", "PAPYRA_PERSISTENCE")
    assert choose_store(None, "b:") == Store("b:", "--backend")


def test_the_nearest_pyproject_counts_and_its_relative_paths_are_relative_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "50% a project"
    (home / "deep").mkdir(parents=True)
    monkeypatch.chdir(home / "deep")
    project = home / "pyproject.toml"
    for written, path in (
        ("json:./x?max_records=1", home / "x"),
        ("sqlite:d/x", home / "d/x"),
        ("json:/x", Path("/x")),
    ):
        project.write_text(f"[tool.papyra]\npersistence = '{written}'\n")
        store = configured_store()
        assert store is not None
        assert Path(BackendURL.parse(store.url).path) == path
    for written in ("memory:", "redis://host/0", "redis:queue"):
        project.write_text(f"[tool.papyra]\npersistence = '{written}'\n")
        assert configured_store() == Store(written, f"[tool.papyra] of {project}")


@pytest.mark.parametrize("text", ["[tool.papyra", "[tool.papyra]\npersistence = 3", "tool = 1\n\xff"])
def test_a_pyproject_that_cannot_be_used_is_an_error_or_not_ours(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text, encoding="latin-1")
    with pytest.raises(Failure, match=r"pyproject\.toml"):
        configured_store()


@pytest.mark.parametrize("text", ["", "tool = 1", "[tool]\npapyra = 2", "[tool.papyra]\nother = 1"])
def test_a_pyproject_without_our_key_configures_nothing(folder: Path, text: str) -> None:
    (folder / "pyproject.toml").write_text(text)
    assert configured_store() is None


def test_settings_that_cannot_be_loaded_are_one_line(run: Runner) -> None:
    (run.folder / "raising.py").write_text("1 / 0\n")
    done = run("persistence", "scan", PAPYRA_SETTINGS_MODULE="raising")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "PAPYRA_SETTINGS_MODULE=raising: ZeroDivisionError" in done.stderr


def test_settings_are_found_in_the_current_folder(run: Runner) -> None:
    (run.folder / "conf.py").write_text(
        "from papyra.settings import Settings\nsettings = Settings(persistence='memory:')\n"
    )
    assert run("persistence", "scan", PAPYRA_SETTINGS_MODULE="conf").stdout == "status\tclean\n"


def test_options_replace_those_of_the_url_and_leave_the_rest() -> None:
    store = Store("json:a%3Fb?max_records=5&durability=always", "x").with_options({"max_records": 7})
    assert store.url == "json:a%3Fb?max_records=7&durability=always"


@pytest.mark.parametrize(
    ("number", "written"),
    [(1e-05, "0.00001"), (8.6e18, "8600000000000000000"), (0.25, "0.25"), (10**20, "1" + "0" * 20)],
)
def test_numbers_are_passed_on_without_an_exponent(number: float, written: str) -> None:
    assert Store("json:x", "x").with_options({"n": number}).url == f"json:x?n={written}"


def test_secrets_are_not_shown() -> None:
    assert Store("redis://u:pw@h/0?password=x&n=1", "x").shown == "redis://u:***@h/0?password=***&n=1"
    assert Store("json:/a:b@c", "x").shown == "json:/a:b@c"


@pytest.mark.parametrize("scheme", ["json", "rotating", "sqlite"])
def test_r12_a_missing_configured_file_is_not_a_clean_store(
    invoke: Callable[..., Result], run: Runner, scheme: str
) -> None:
    """A volume that is not mounted must not be reported as clean; an application may be about to create the
    file.
    """
    url = f"{scheme}:no%20pe.ndjson?max_records=5"
    missing = run.folder / "no pe.ndjson"
    for command in ("persistence scan", "persistence recover --yes", "persistence compact", "inspect events",
                    "inspect runs", "metrics persistence"):  # fmt: skip
        done = invoke(*command.split(), PAPYRA_PERSISTENCE=url)
        assert (done.exit_code, done.stdout) == (3, "")
        assert f"there is no file {missing} (from PAPYRA_PERSISTENCE)" in done.stderr
    told = f"papyra: note: {missing} does not exist yet, so the store is empty (from --backend)\n"
    for command in ("doctor run", "persistence startup-check"):
        done = invoke(*command.split(), "--backend", url)
        assert (done.exit_code, done.stderr) == (0, told)
        assert invoke(*command.split(), "--path", "no pe.ndjson").exit_code == 3
    assert list(run.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (("--path", "~/facts"), "only a shell expands '~'. Write '/"),
        (("--path", " facts"), "there is white space around it. Write 'facts'"),
        (("--backend", "json:~/facts"), "only a shell expands '~'. Write '/"),
        (("--backend", "sqlite:facts "), "there is white space around it. Write 'facts'"),
        (("--backend", "json:~nobody-here/facts"), "Write './~nobody-here/facts'"),
    ],
)
def test_r28_a_path_that_only_a_shell_understands_is_refused(
    invoke: Callable[..., Result], run: Runner, option: tuple[str, str], problem: str
) -> None:
    done = invoke("doctor", "run", *option)
    assert done.exit_code == 2
    assert problem in done.stderr
    configured = invoke("doctor", "run", PAPYRA_PERSISTENCE="json:~/facts")
    assert configured.exit_code == 3
    assert list(run.folder.iterdir()) == []


def test_a_configured_store_that_exists_or_is_not_a_file_gets_no_note(
    invoke: Callable[..., Result], run: Runner
) -> None:
    _write(run.folder / "f.1", 1)
    (run.folder / "g").touch()
    for url in ("rotating:f", "json:g", "memory:"):
        assert invoke("inspect", "events", "--backend", url).stderr == ""
    assert invoke("persistence", "scan", "--backend", "json:f?bogus=1").stderr.count("\n") == 1


def test_unknown_and_malformed_urls_are_errors(invoke: Callable[..., Result]) -> None:
    unknown = invoke("persistence", "scan", "--backend", "nope:x")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (3, 1)
    assert "no backend for the scheme" in unknown.stderr
    assert invoke("persistence", "scan", "--backend", "no scheme").exit_code == 2
    option = invoke("persistence", "scan", "--backend", "memory:?bogus=1")
    assert option.exit_code == 2
    assert "its options are: max_age_seconds, max_records, max_total_bytes" in option.stderr
    configured = invoke("persistence", "scan", PAPYRA_PERSISTENCE="no scheme")
    assert configured.exit_code == 3
    assert "(from PAPYRA_PERSISTENCE)" in configured.stderr


def test_compressed_rotations_are_found(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(folder / "f.3", 1)
    _write(folder / "f.2", 2)
    _write(folder / "f.1", 3)
    _write(folder / "f", 4)
    for name in ("f.1", "f.2"):
        packed = folder / (name + ".gz" if name == "f.1" else name)  # a crash may leave a packed one unnamed
        packed.write_bytes(gzip.compress((folder / name).read_bytes()))
    (folder / "f.1").unlink()
    (folder / "f.3").rename(folder / "f.3.zst")
    (folder / "f.3.zst").write_bytes(b"\x28\xb5\x2f\xfd, as if by zstd")
    readable = importlib.util.find_spec("compression") is not None
    assert store_at("f").url == ("json:f" if readable else "rotating:f?max_files=auto")
    (folder / "f.3.zst").unlink()
    assert store_at("f").url == "rotating:f?max_files=auto"
    caplog.clear()
    (folder / "f.1.gz").write_bytes(gzip.compress(b"notes")[:-3])
    assert store_at("f").url == "json:f"
    assert (
        "f.1.gz, f.2: not read, because they are not rotations of f (f.1.gz holds no record)" in caplog.text
    )


def test_r32_a_compaction_sets_the_size_of_a_rotating_set(
    invoke: Callable[..., Result], run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.folder)
    anyio.run(_fill, "rotating:f?max_bytes=600&max_files=8")
    before = len(list(run.folder.glob("f.?")))
    assert before > 3
    assert invoke("persistence", "compact", "--path", "f", "--max-files", "2", "--dry-run").exit_code == 0
    assert len(list(run.folder.glob("f.?"))) == before
    assert invoke("persistence", "compact", "--path", "f", "--max-files", "2").exit_code == 0
    assert [path.name for path in run.folder.glob("f.?")] == ["f.1"]
    assert invoke("persistence", "compact", "--path", "f", "--max-files", "0").exit_code == 2
    done = invoke("persistence", "compact", "--backend", "json:f", "--max-files", "2")
    assert done.exit_code != 0
    assert "has no max_files" in done.stderr
