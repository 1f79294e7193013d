"""Stores that are not Amazon's, and surroundings that are not a laptop's: they work, or get one sentence at once."""

import base64
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from components.core.buckets import make_buckets
from components.core.errors import UserError
from components.core.location import Access, Location
from components.core.store import ObjectCorrupt, ObjectExists, Store, open_store
from tests.fakes.s3_server import Oddities, OddStore, odd_store, pod_identity

AT_ONCE = 3  # requests: one that is refused, and what a client asks of itself


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own settings."""
    for name in (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "SSL_CERT_FILE",
        "AWS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


Opened = Callable[..., AbstractContextManager[tuple[OddStore, Store]]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a store with the oddities given."""

    @contextmanager
    def open_odd(**oddities: Any) -> Iterator[tuple[OddStore, Store]]:
        with odd_store(Oddities(**oddities)) as odd:
            monkeypatch.setenv("AWS_ENDPOINT_URL", odd.endpoint)
            yield odd, open_store("s3://bucket/prefix")

    return open_odd


@pytest.mark.parametrize(
    "oddities",
    [
        {"etag": "kms", "encryption": "aws:kms"},
        {"etag": "kms", "encryption": "aws:kms:dsse"},
        {"etag": "random"},
        {"etag": "upper"},
        {"etag": "none"},
    ],
)
def test_an_etag_that_is_no_digest_of_the_bytes_is_no_damage(opened: Opened, oddities: dict[str, str]) -> None:
    with opened(**oddities) as (odd, store):
        store.put("one", b"first")
        store.put("two", b"second")
        assert (store.get("one"), store.fetch("two")) == (b"first", b"second")
        assert len(odd.headers) <= 2 + 2 * AT_ONCE


def test_bytes_that_do_not_match_the_digest_are_damaged_where_others_matched(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.core.patience.LONGEST_PAUSE_SECONDS", 0.01)
    with opened() as (_odd, store):
        store.put("whole", b"as it was")
        assert store.get("whole") == b"as it was"
        monkeypatch.setattr("tests.fakes.s3_server._Handler._etag", lambda self, path: "0" * 32)
        with pytest.raises(ObjectCorrupt, match="do not match their ETag"):
            store.get("whole")


def test_where_etags_say_nothing_the_store_s_own_checksum_is_looked_at(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.core.patience.LONGEST_PAUSE_SECONDS", 0.01)
    right = base64.b64encode(zlib.crc32(b"bytes").to_bytes(4, "big")).decode()
    with opened(etag="kms", encryption="aws:kms", checksum=right) as (odd, store):
        store.put("key", b"bytes")
        assert [store.get("key") for _ in range(3)] == [b"bytes"] * 3
        odd.objects["bucket/prefix/key"] = b"other"
        with pytest.raises(ObjectCorrupt):
            store.get("key")


@pytest.mark.parametrize("oddities", [{"etag": "none"}, {"is_truncated": False}, {"newest_first": True}])
def test_a_listing_may_leave_out_what_is_optional_and_have_any_order(opened: Opened, oddities: dict[str, Any]) -> None:
    with opened(**oddities) as (_odd, store):
        for name in ("a", "b"):
            store.put(f"list/{name}", name.encode())
        listed = {entry.key: entry for entry in store.list("list/")}
        assert set(listed) == {"list/a", "list/b"}
        assert all(entry.version for entry in listed.values())
        assert (listed["list/a"].etag == "") == (oddities.get("etag") == "none")


def test_a_store_that_refuses_conditional_writes_is_named_at_once(opened: Opened) -> None:
    with opened(conditions="refused") as (odd, store):
        with pytest.raises(UserError, match=r"cannot do what is asked .*If-None-Match"):
            store.create("lock", b"mine")
        assert len(odd.headers) <= AT_ONCE


def test_a_store_that_ignores_conditions_is_noticed_before_two_can_win(opened: Opened) -> None:
    with opened(conditions="ignored") as (odd, store):
        with pytest.raises(UserError, match="lets a second writer replace"):
            store.create("lock", b"mine")
        assert "bucket/prefix/lock" not in odd.objects


def test_where_conditions_hold_one_of_two_wins_and_the_store_is_asked_once(opened: Opened) -> None:
    with opened() as (odd, store):
        store.create("lock", b"mine")
        requests = len(odd.headers)
        store.create("another", b"mine")
        assert len(odd.headers) == requests + 1
        with pytest.raises(ObjectExists):
            store.create("lock", b"theirs")


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "RequestTimeTooSkewed", "clock of this machine"),
        (301, "PermanentRedirect", r"another region than us-east-1; set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (400, "ExpiredToken", "credentials .* have expired"),
        (403, "InvalidAccessKeyId", "refused access"),
        (404, "NoSuchBucket", "does not exist"),
        (501, "NotImplemented", "cannot do what is asked"),
    ],
)
@pytest.mark.parametrize("act", [lambda store: store.get("key"), lambda store: list(store.list())])
def test_an_answer_that_will_not_change_is_said_at_once(
    opened: Opened, status: int, code: str, sentence: str, act: Callable[[Store], object]
) -> None:
    with opened(error=(status, code)) as (odd, store):
        with pytest.raises(UserError, match=sentence):
            act(store)
        assert len(odd.headers) <= AT_ONCE


def test_a_store_that_stays_too_busy_asks_for_patience(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.core.patience.LONGEST_PAUSE_SECONDS", 0.01)
    with (
        opened(error=(503, "SlowDown")) as (_odd, store),
        pytest.raises(UserError, match=r"asks for fewer requests .*what is done is kept"),
    ):
        store.get("key")


@pytest.mark.parametrize("value", ["minio:9000", "localhost", "ftp://store:21", "http://", "//store", "http://store:x"])
def test_an_endpoint_of_another_form_is_one_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(UserError, match="should begin with http:// or https://"):
        open_store("s3://bucket")
    with pytest.raises(UserError, match="should begin with http:// or https://"):
        make_buckets(["bucket"])


def test_an_endpoint_may_be_in_capitals_and_end_with_a_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "HTTP://Store:9000/")
    assert Access.to("s3://bucket").endpoint == "http://Store:9000"


@pytest.mark.parametrize("address", ["gs://bucket/bins", "az://container", "abfss://container@account/bins"])
def test_other_clouds_addresses_are_told_how_to_be_reached(address: str) -> None:
    with pytest.raises(UserError, match=r"is not an S3 address\. (Google|Azure)"):
        Location.parse(address)


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_and_a_session_token_reach_every_client(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "eu-central-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    with odd_store() as odd:
        monkeypatch.setenv("AWS_ENDPOINT_URL", odd.endpoint)
        store = open_store("s3://bucket")
        store.put("key", b"bytes")
        list(store.list())
        make_buckets(["bucket"])
    assert len(odd.headers) >= 3
    for headers in odd.headers:
        lowered = {name.lower(): value for name, value in headers.items()}
        assert lowered["x-amz-security-token"] == "token"
        assert "/eu-central-1/s3/" in lowered["authorization"]


def test_a_profile_is_as_good_as_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[site]\naws_access_key_id = of-the-profile\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    with odd_store() as odd:
        monkeypatch.setenv("AWS_ENDPOINT_URL", odd.endpoint)
        with pytest.raises(UserError, match="No credentials"):
            open_store("s3://bucket")
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(UserError, match=r"cannot be read: .*nobody"):
            open_store("s3://bucket")
        monkeypatch.setenv("AWS_PROFILE", "site")
        store = open_store("s3://bucket")
        store.put("key", b"bytes")
        list(store.list())
        make_buckets(["bucket"])
    assert len(odd.headers) >= 3
    assert all("of-the-profile" in str(headers) for headers in odd.headers)


def ask_with_every_client(odd: OddStore) -> list[dict[str, str]]:
    store = open_store("s3://bucket")
    store.put("key", b"bytes")
    assert store.get("key") == b"bytes"
    assert [entry.key for entry in store.list()] == ["key"]
    make_buckets(["bucket"])
    return [{name.lower(): value for name, value in headers.items()} for headers in odd.headers]


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Only an identity of the surroundings is there, and a file with its token."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("workload")
    return tmp_path / "token"


@pytest.fixture(params=["http", "https"])
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OddStore]:
    """A store with and without a private authority, which whatever gives keys is to be asked with too."""
    certificate = None
    if request.param == "https":
        authority, certificate = trustme.CA(), tmp_path / "server.pem"
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with odd_store(certificate=certificate) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        yield store


def test_a_web_identity_is_as_good_as_keys_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, no_keys: Path, odd: OddStore
) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(no_keys))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/bin-counter")
    seen = ask_with_every_client(odd)
    assert len(seen) >= 4
    for headers in seen:
        assert "of-workload/" in headers["authorization"]
        assert headers["x-amz-security-token"] == "session-of-workload"


def test_a_pod_identity_is_as_good_as_keys_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, no_keys: Path, odd: OddStore
) -> None:
    with pod_identity() as agent:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(no_keys))
        seen = ask_with_every_client(odd)
    assert len(seen) >= 4
    for headers in seen:
        assert "of-workload/" in headers["authorization"]
        assert headers["x-amz-security-token"] == "session-of-workload"


@pytest.mark.parametrize("identity", ["web", "pod"])
def test_an_identity_whose_keys_cannot_be_had_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, no_keys: Path, identity: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    if identity == "web":
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "absent"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/bin-counter")
    else:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
    with pytest.raises(UserError, match=r"credentials for s3://bucket cannot be read"):
        open_store("s3://bucket")
    assert caplog.text == ""  # no traceback beside the sentence


@pytest.mark.parametrize("bypassed", ["", "10.0.0.0/8", "*.example.com,localhost"])
def test_a_store_on_this_machine_is_asked_without_the_proxy(monkeypatch: pytest.MonkeyPatch, bypassed: str) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where nothing listens
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, bypassed)
    with odd_store() as odd:
        for endpoint in (odd.endpoint, odd.endpoint.replace("localhost", "127.0.0.1")):
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            store = open_store("s3://bucket")
            store.put("key", b"bytes")
            assert store.get("key") == b"bytes"
            assert [entry.key for entry in store.list()] == ["key"]
            make_buckets(["bucket"])


def test_a_private_authority_is_named_once_for_every_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with odd_store(certificate=tmp_path / "server.pem") as odd:
        monkeypatch.setenv("AWS_ENDPOINT_URL", odd.endpoint)
        for act in (lambda store: store.get("key"), lambda store: list(store.list())):
            with pytest.raises(UserError, match=r"certificate .* is not trusted .*SSL_CERT_FILE"):
                act(open_store("s3://bucket"))
        with pytest.raises(UserError, match=r"certificate .* is not trusted.*SSL_CERT_FILE"):
            make_buckets(["bucket"])
        for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
            store = open_store("s3://bucket")
            store.put("key", b"bytes")
            assert store.get("key") == b"bytes"
            assert [entry.key for entry in store.list()] == ["key"]
            make_buckets(["bucket"])
            monkeypatch.delenv(variable)


def test_an_authority_that_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://localhost:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    with pytest.raises(UserError, match=r"SSL_CERT_FILE=.* cannot be read"):
        open_store("s3://bucket")
