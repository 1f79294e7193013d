import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from components.core.errors import UserError
from components.core.layout import metadata_key
from components.core.records import block_of, read_records, read_rejects
from components.core.recounts import Recount, keep
from components.core.store import Store, open_store
from components.ingest_metadata import bucket
from tests.data.world import World, made_metadata

ODD_NAMES = ("readme.txt", "sub/00001.json", "a b.json", "x\ny.json", "-1.json", "1.JSON", "...json", "\u0661.json")
ODD_KEYS = [f"metadata/{name}" for name in (*ODD_NAMES, "1" * 13 + ".json")]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "PART_KEYS", 7)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the metadata files that are read from now on."""
    keys: list[str] = []
    original = Store.fetch

    def counting(self: Store, key: str) -> bytes:
        keys.append(key)
        return original(self, key)

    monkeypatch.setattr(Store, "fetch", counting)
    return keys


def test_every_listed_file_is_a_record_or_a_reject(world: World) -> None:
    world.fill(60, photos=False)
    bad = {"00007": b"{", "00008": b"\xff", "1": b"[]"}
    for image_id, data in bad.items():
        world.put(metadata_key(image_id), data)
    for key in ODD_KEYS:
        world.put_odd(key, made_metadata(1))
    tally = world.ingest()
    records, rejects = read_records(world.path("records")), read_rejects(world.path("rejects"))
    assert len(records) == tally.records == 58
    assert not set(records["image_id"]) & set(bad)
    reasons = {reject.key: reject.reason for reject in rejects}
    assert {reasons[metadata_key(image_id)] for image_id in bad} == {"not JSON", "not UTF-8", "not an object"}
    assert sorted(key for key, reason in reasons.items() if reason == "outside the layout") == sorted(ODD_KEYS)
    assert len(rejects) == len(bad) + len(ODD_KEYS)


def test_ids_that_are_equal_as_integers_are_two_bins(world: World) -> None:
    world.put(metadata_key("1044"), made_metadata(1, 2))
    world.put(metadata_key("01044"), made_metadata(2, 5))
    world.ingest()
    records = read_records(world.path("records"))
    assert dict(zip(records["image_id"], records["quantity"], strict=True)) == {"1044": 2, "01044": 5}


def test_a_second_ingest_reads_nothing_and_gives_the_same_bytes(
    world: World, asked: list[str], small_parts: None
) -> None:
    world.fill(50, photos=False)
    world.put("metadata/odd", b"")
    world.ingest()
    first, reads = world.results(), len(asked)
    tally = world.ingest(snapshot="later")
    assert world.results() == first
    assert (reads, len(asked)) == (50, 50)
    assert tally.reused == 51


def test_a_grown_bucket_is_read_where_it_is_new_or_changed(world: World, asked: list[str], small_parts: None) -> None:
    world.fill(50, photos=False)
    world.ingest()
    asked.clear()
    world.fill(30, start=51, photos=False)
    world.put(metadata_key("00003"), made_metadata(3, 6))
    open_store(world.source).delete(metadata_key("00004"))
    world.ingest(snapshot="grown")
    assert sorted(asked) == sorted(metadata_key(f"{number:05d}") for number in (3, *range(51, 81)))
    grown = world.results()
    fresh = type(world)(world.folder, world.name)
    assert fresh.ingest(data_uri=f"{world.data_uri}/other").reused == 0
    assert fresh.results() == grown


def test_new_keys_between_old_ones_make_no_old_one_read_again(
    world: World, asked: list[str], small_parts: None
) -> None:
    store = open_store(world.source)
    for number in range(0, 400, 4):
        store.put(metadata_key(f"{number:05d}"), made_metadata(number))
    world.ingest()
    asked.clear()
    new = [metadata_key(f"{number:05d}") for number in range(1, 400, 4)]
    for key in new:
        store.put(key, made_metadata(1))
    world.ingest(snapshot="between")
    assert sorted(asked) == new


def test_a_limit_takes_whole_blocks_of_neighbours(world: World) -> None:
    world.fill(200, photos=False)
    world.ingest(limit=50, seed=1)
    first = read_records(world.path("records"))["image_id"].tolist()
    assert len(first) == 50
    assert len({block_of(image_id) for image_id in first}) <= 4
    world.ingest(limit=50, seed=1)
    assert read_records(world.path("records"))["image_id"].tolist() == first
    world.ingest(limit=50, seed=2)
    assert read_records(world.path("records"))["image_id"].tolist() != first
    world.ingest(limit=500)
    assert len(read_records(world.path("records"))) == 200


def test_a_larger_limit_holds_the_smaller_sample(world: World) -> None:
    world.fill(200, photos=False)
    samples = []
    for limit in (30, 70, 130):
        world.ingest(limit=limit)
        samples.append(set(read_records(world.path("records"))["image_id"]))
    assert samples[0] < samples[1] < samples[2]


def test_an_empty_bucket_is_said_so(world: World) -> None:
    with pytest.raises(UserError, match=r"There is no metadata at .*check SOURCE"):
        world.ingest()
    assert not world.path("records").exists()


def test_a_source_without_one_usable_file_is_said_so(world: World) -> None:
    world.put(metadata_key("1"), b"{")
    with pytest.raises(UserError, match="Not one of the 1 metadata files"):
        world.ingest()


@pytest.mark.parametrize(
    ("source", "environment", "said"),
    [
        ("s3://no-such-bucket", {}, "does not exist"),
        ("s3://bin-source", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "refused access"),
        ("s3://bin-source", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer"),
        ("s3://bin-source", {"AWS_ACCESS_KEY_ID": ""}, "No credentials"),
        ("bin-source", {}, "is not an S3 address"),
        ("nowhere.csv", {}, "There is no table at nowhere.csv"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch, source: str, environment: dict[str, Any], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=said):
        world.ingest(source=source)
    assert world.results() == {}


def test_the_shell_prints_the_sentence_and_fails(world: World) -> None:
    command = [sys.executable, "-m", "components.ingest_metadata", "--source", "s3://no-such-bucket"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: The bucket 'no-such-bucket' does not exist")
    assert "Traceback" not in ended.stderr


def recount(image_id: str, recorded: int, counted: int, is_label: bool = True) -> Recount:
    file = f"bin-images/{image_id}.jpg"
    return Recount(file, recorded, counted, "ranked", 1.0, 0.5, by="Ann", when="2026-11-20", is_label=is_label)


def test_what_was_counted_is_the_label_and_the_page_says_whose_count_it_is(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fill(12, photos=False)  # by its record bin 00005 holds 5, 00003 three, and 00004 four
    given = [recount("00005", 5, 2), recount("00003", 3, 3), recount("00004", 1, 2), recount("99999", 2, 1)]
    given.append(recount("00002", 2, 1, is_label=False))
    keep(open_store(world.data_uri), given, datetime(2026, 11, 27, tzinfo=UTC))
    world.ingest()
    records = read_records(world.path("records")).set_index("image_id")
    assert records["quantity"].to_dict() == {f"{number:05d}": number % 8 for number in range(1, 13)} | {"00005": 2}
    assert records.loc["00005", "product_list"] == ""
    assert records.loc["00003", "product_list"] != ""
    assert not records.loc["00005", "consistent"]
    said = "2 are labels, 1 of them another count than the record's; not used: 1 of bins whose record is another by now"
    assert f"recounts: {said}, 1 of no bin that was read" in capsys.readouterr().out
    page = world.path("ingest.html").read_text()
    assert all(word in page for word in ("00005", "Ann", "2026-11-20", "the label now"))


def test_without_recounts_nothing_is_said_of_them(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fill(3, photos=False)
    world.ingest()
    assert "recounts" not in capsys.readouterr().out
    assert "Recounts" not in world.path("ingest.html").read_text()
