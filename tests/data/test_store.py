import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from components.core import patience
from components.core import store as store_module
from components.core.errors import UserError
from components.core.layout import PUBLIC_SOURCE_BUCKET
from components.core.location import Access, Location
from components.core.store import ObjectExists, ObjectMissing, Store, open_store
from tests.data.world import World
from tests.fakes.proxies import Faults, fault_proxy


@pytest.fixture
def bucket(world: World) -> Store:
    return open_store(world.source)


def test_objects_are_written_read_and_removed(bucket: Store) -> None:
    etag = bucket.put("a/b", b"one")
    assert (bucket.get("a/b"), bucket.etag("a/b")) == (b"one", etag)
    assert bucket.put("a/b", b"two") != etag
    bucket.delete("a/b")
    bucket.delete("a/b")
    assert not bucket.exists("a/b")
    with pytest.raises(ObjectMissing):
        bucket.get("a/b")


def test_a_listing_longer_than_a_page_is_whole_and_relative_to_the_prefix(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PAGE_KEYS", 3)
    for number in range(10):
        bucket.put(f"list/{number}", b"x" * number)
    assert [(entry.key, entry.size) for entry in bucket.list("list/")] == [(f"list/{n}", n) for n in range(10)]
    assert list(bucket.list("nothing/")) == []


def test_of_two_creators_one_wins(bucket: Store) -> None:
    bucket.create("lock", b"mine")
    with pytest.raises(ObjectExists):
        bucket.create("lock", b"theirs")
    assert bucket.get("lock") == b"mine"


def test_a_creator_whose_answers_are_lost_knows_that_it_won(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # A store that never answered is given up sooner, which is not what this is about.
    monkeypatch.setattr(patience, "FIRST_ATTEMPTS", patience.ATTEMPTS)
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], Faults(resets=0.4), seed=3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(world.source)
        for number in range(8):
            store.create(f"lock/{number}", b"mine")
        assert proxy.injected["resets"] >= 1
        with pytest.raises(ObjectExists):
            store.create("lock/0", b"theirs")
    assert "broken connections" in store.told_retries()


def test_retries_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.01)
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], Faults(server_errors=1.0)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(UserError, match=r"does not answer .*check that it runs|asks for fewer requests"):
            open_store(world.source).get("key")
        assert proxy.requests == patience.ATTEMPTS


def test_a_listed_object_that_stalls_is_asked_for_again_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "STALL_SECONDS", 0.3)
    open_store(world.source).put("key", b"here")
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], Faults(stalls=0.5), seed=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(world.source)
        store.answered = True
        assert {store.fetch("key") for _ in range(8)} == {b"here"}
        assert store.retries["stalled"] == proxy.injected["stalls"] > 0


def test_retries_of_many_threads_are_all_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.01)
    open_store(world.source).put("key", b"here")
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], Faults(server_errors=0.3), seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(world.source)
        store.answered = True
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(store.fetch, ["key"] * 200)) == {b"here"}
        assert store.retries.total() == proxy.injected["server_errors"] > 20


def test_abandoned_requests_wait_no_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 60.0)
    with fault_proxy(os.environ["AWS_ENDPOINT_URL"], Faults(server_errors=1.0)) as proxy, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(world.source)
        fetching = pool.submit(store.fetch, "key")
        while not store.retries:
            time.sleep(0.01)
        store.abandon()
        with pytest.raises(UserError, match="were stopped"):
            fetching.result(timeout=10)


@pytest.mark.parametrize("uri", ["bucket", "http://bucket", "s3://", ""])
def test_an_address_of_another_form_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="is not an S3 address"):
        Location.parse(uri)


def test_the_public_dataset_is_read_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://ours")
    access = Access.to(f"s3://{PUBLIC_SOURCE_BUCKET}")
    assert (access.signed, access.endpoint) == (False, None)
