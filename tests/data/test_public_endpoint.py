"""The public bucket is read unsigned, at AWS itself; what keeps it from being read is told."""

import pytest

from components.core.errors import UserError
from components.core.store import open_store
from pipeline.local_store import RunningStore


def test_stores_at_aws_itself_open_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "PUBLIC_SOURCE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert open_store("s3://aft-vbi-pds").access.endpoint is None
    assert open_store("s3://models").access.endpoint is None


def test_a_bucket_that_is_not_there_is_told_with_the_store_that_was_asked(store_environment: RunningStore) -> None:
    with pytest.raises(UserError, match=rf"'nowhere' does not exist in the store at {store_environment.endpoint};"):
        open_store("s3://nowhere").get("key")


def test_who_is_refused_without_credentials_is_not_sent_to_look_at_them(
    store_environment: RunningStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_SOURCE_ENDPOINT", store_environment.endpoint)  # which lets nobody in unsigned
    with pytest.raises(UserError, match=r"is public and was refused; check that no proxy"):
        next(open_store("s3://aft-vbi-pds").list("metadata/"))


def test_a_public_bucket_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_SOURCE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"does not answer .* check the connection to AWS"):
        next(open_store("s3://aft-vbi-pds").list("metadata/"))
