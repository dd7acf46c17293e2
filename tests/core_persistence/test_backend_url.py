"""Backend URLs: how they are read, and how mistakes are explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papyra.exceptions import BackendURLError, PersistenceError
from papyra.persistence import InMemoryPersistence, PersistenceBackend, RetentionPolicy, open_backend
from papyra.persistence.url import RETENTION_OPTIONS, BackendURL, duration, masked, one_of, size


@pytest.mark.parametrize(
    ("text", "scheme", "path", "options"),
    [
        ("memory:", "memory", "", {}),
        ("json:./papyra.ndjson", "json", "./papyra.ndjson", {}),
        ("json:/var/log/p.ndjson?a=1&b=", "json", "/var/log/p.ndjson", {"a": "1", "b": ""}),
        ("json:///var/p", "json", "/var/p", {}),
        ("redis://host:6379/0", "redis", "//host:6379/0", {}),
        ("json:a%3Fb%20c%23?x=%26", "json", "a?b c#", {"x": "&"}),
        ("json:C:/x", "json", "C:/x", {}),
        ("my-own.x+1:p", "my-own.x+1", "p", {}),
        ("json:p?", "json", "p", {}),
        ("json:naïve%C3%AF", "json", "naïveï", {}),
    ],
)
def test_a_url_is_split(text, scheme, path, options):
    url = BackendURL.parse(text)
    assert (url.text, url.scheme, url.path, dict(url.options)) == (text, scheme, path, options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no scheme"),
        ("papyra.ndjson", "write 'scheme:path'"),
        ("./a:b", "no scheme"),
        (":path", "no scheme"),
        ("JSON:x", "no scheme"),
        ("json:a%00b", "NUL"),
        ("json:a\0b", "NUL"),
        ("json:p?novalue", "malformed"),
        ("json:p?a=1&&b=2", "malformed"),
        ("json:p?a=1&a=2", "'a' twice"),
        ("json:a%ff", "UTF-8"),
        ("json:a ", r"can't be used: there is white space around it\. Write 'a'"),
        ("json:~nobody/a", r"the path of 'json:~nobody/a' can't be used: "),
    ],
)
def test_a_malformed_url_says_what_is_wrong(text, words):
    with pytest.raises(BackendURLError, match=words) as caught:
        BackendURL.parse(text)
    assert isinstance(caught.value, PersistenceError)
    assert isinstance(caught.value, ValueError)


def test_a_path_that_may_hold_a_password_is_not_shown():
    with pytest.raises(BackendURLError, match=r"can't be used$") as caught:
        BackendURL.parse("json: user:s3cr3t@host/a")
    assert "s3cr3t" not in str(caught.value)


@given(st.text())
def test_any_text_is_split_or_refused(text):
    try:
        url = BackendURL.parse(text)
    except BackendURLError:
        return
    assert text.startswith(f"{url.scheme}:")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("15m", 900),
        ("7d", 604800),
        ("2w", 1209600),
        (" 1h ", 3600),
    ],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1y", "1e3", "soon", "inf", "nan", "1 2", "\u0661", "5 m m"])
def test_a_text_that_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"seconds.*, as in 90, 15m or 7d"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("100MB", 10**8),
        ("1 GiB", 2**30),
        ("1.5kb", 1500),
        ("0b", 0),
        ("9007199254740993", 9007199254740993),
        ("9" * 400, 10**400 - 1),
    ],
)
def test_sizes(text, count):
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "-1", "1XB", "much", "1e3", "\u0661", "1.2.3"])
def test_a_text_that_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match=r"bytes.*, as in 4096 or 100MB"):
        size(text)


def test_retention_comes_out_as_a_policy():
    url = BackendURL.parse("x:p?max_records=10&max_age_seconds=7d&max_total_bytes=1MB&mode=fast")
    policy, rest = url.convert_with_retention({"mode": one_of("fast", "safe")})
    assert policy == RetentionPolicy(10, 604800.0, 10**6)
    assert rest == {"mode": "fast"}
    assert BackendURL.parse("x:p").convert_with_retention({}) == (None, {})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("mod=fast", ["'x'", "'mod'"]),
        ("mode=slow", ["'slow'", "'mode'", "fast, safe"]),
        ("max_records=-1", ["'-1'", "'max_records'", "whole number"]),
        ("max_records=", ["''", "whole number", "as in 1000"]),
        ("max_age_seconds=soon", ["'soon'", "ms, s, m, h, d, w"]),
        ("max_total_bytes=much", ["'much'", "MiB"]),
        ("max_records=" + "9" * 5000, ["'max_records'"]),
    ],
)
def test_a_bad_option_lists_the_valid_ones(query, words):
    with pytest.raises(BackendURLError) as caught:
        BackendURL.parse(f"x:p?{query}").convert_with_retention({"mode": one_of("fast", "safe")})
    for word in [*words, "mode", *RETENTION_OPTIONS]:
        assert word in str(caught.value)


def test_a_backend_without_options_says_so():
    with pytest.raises(BackendURLError, match="its options are: none"):
        BackendURL.parse("x:?a=1").convert({})


@pytest.mark.parametrize("amount", ["0", "1", "9" * 30])
def test_the_default_from_url_takes_any_valid_limit(amount):
    backend = open_backend(f"memory:?max_records={amount}")
    assert backend.retention.max_records == int(amount)


class Picky(InMemoryPersistence):
    """Stands for a third party's: wants a path, and refuses some."""

    name = "picky"

    def __init__(self, path: str, retention_policy: RetentionPolicy | None = None) -> None:
        super().__init__(retention_policy)
        if path == "bad":
            raise ValueError("that path is bad")
        self.path = path


def test_the_default_from_url_hands_on_path_and_policy():
    backend = Picky.from_url("picky:some/path?max_records=3")
    assert backend.path == "some/path"
    assert backend.retention == RetentionPolicy(max_records=3)


@pytest.mark.parametrize(("url", "words"), [("picky:", "path"), ("picky:bad", "that path is bad")])
def test_what_the_constructor_refuses_is_an_error_of_the_url(url, words):
    with pytest.raises(BackendURLError, match=f"can't open '{url}': .*{words}"):
        Picky.from_url(url)


def test_a_path_for_a_backend_without_one_is_an_error_of_the_url():
    with pytest.raises(BackendURLError, match="can't open 'memory:path'"):
        InMemoryPersistence.from_url("memory:path")


def test_backends_are_classes_of_the_contract():
    assert issubclass(InMemoryPersistence, PersistenceBackend)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis://host:6379/0", (None, None, "host", 6379, "0")),
        ("redis://user:pw@host", ("user", "pw", "host", None, None)),
        ("redis://:pw@host/", (None, "pw", "host", None, None)),
        ("pg://a%40b:p%3Aw%2F%40@h%2Fx:5432/my%2Fdb?x=1", ("a@b", "p:w/@", "h/x", 5432, "my/db")),
        ("pg://u:a@b@host/d", ("u", "a@b", "host", None, "d")),
        ("pg://[::1]:5432/d", (None, None, "::1", 5432, "d")),
        ("pg://[::1]/d", (None, None, "::1", None, "d")),
        ("pg:///d", (None, None, None, None, "d")),
        ("json:./a@b:c", (None, None, None, None, None)),
    ],
)
def test_r15_a_url_has_a_server_and_each_part_is_decoded_by_itself(text, parts):
    url = BackendURL.parse(text)
    assert (url.user, url.password, url.host, url.port, url.database) == parts
    assert url.path == "./a@b:c" or "pw" not in url.path


MALFORMED = [
    "redis://user:hunter2@host:port/0",
    "redis://user:hunter2@host:99999/0",
    "redis://user:hunter2@host/0?novalue",
    "redis://user:hunter2@host/0?a=1&a=2",
    "redis://user:hunter2@host/%ff",
    "redis://user:hunter2@ho%00st/0",
    "redis://user:x/hunter2@host/0",
    "redis://user:x?hunter2@host/0",
    "redis://user:1?hunter2=hunter2@host/0",
    "redis://user:x hunter2\n@host:port/0",
    "REDIS://user:hunter2@host/0",
    "//user:hunter2@host/0",
    "redis:user:hunter2@host/0?novalue",
    "user:hunter2@host?novalue",
    "redis://host/0?password=hunter2&a=1&a=2",
    "redis://host/0?max_records=1&sslPassword=hunter2",
    "redis://:%68unter2@host/0?timeout=never",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_r15_no_password_of_a_malformed_url_is_printed(text):
    with pytest.raises(BackendURLError) as caught:
        BackendURL.parse(text).convert({"timeout": duration})
    shown = f"{caught.value} {caught.value.__cause__} {masked(text)}"
    assert "unter2" not in shown
    assert "x/" not in shown


def test_r15_a_url_prints_without_its_password():
    url = BackendURL.parse("redis://user:hunter2@host/0?token=abc&x=1")
    assert str(url) == "redis://user:***@host/0?token=***&x=1"
    assert repr(url) == "BackendURL('redis://user:***@host/0?token=***&x=1')"
    assert masked("json:./a@b?x=1") == "json:./a@b?x=1"
    assert masked("redis://user@host/0") == "redis://user@host/0"


def test_r15_a_password_in_the_error_of_a_constructor_is_masked():
    class Leaky(InMemoryPersistence):
        name = "leaky"

        @classmethod
        def from_parsed_url(cls, url, retention, options):
            raise ValueError(f"bad address {url.password}@{url.host}")

    with pytest.raises(BackendURLError, match=r"\*\*\*@host") as caught:
        Leaky.from_url("leaky://user:hunter2@host")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
