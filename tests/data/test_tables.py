import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import UserError
from components.core.layout import IMAGE_ID
from components.core.records import Record, Reject
from components.core.source import Source, is_table
from components.ingest_metadata.table import read_table
from tests.data.world import World

ROWS = [("1", 0), ("00001", 3), ("123456", 209), ("01044", 2), ("1044", 5)]
EXPECTED = sorted(ROWS)


def outcomes(path: Path | str, **options: Any) -> list[Record | Reject]:
    return [outcome for batch in read_table(str(path), **options) for outcome in batch]


def pairs(path: Path | str, **options: Any) -> list[tuple[str, int]]:
    return [(record.image_id, record.quantity) for record in outcomes(path, **options) if isinstance(record, Record)]


def csv_text(rows: Iterable[tuple[object, object]]) -> str:
    return "image_id,quantity\n" + "".join(f"{image_id},{quantity}\n" for image_id, quantity in rows)


def test_csv_plain_and_packed(tmp_path: Path) -> None:
    (tmp_path / "bins.csv").write_text(csv_text(ROWS))
    (tmp_path / "bins.csv.gz").write_bytes(gzip.compress(csv_text(ROWS).encode()))
    assert pairs(tmp_path / "bins.csv") == pairs(tmp_path / "bins.csv.gz") == EXPECTED


def test_csv_with_other_columns_in_another_order(tmp_path: Path) -> None:
    lines = ["EXPECTED_QUANTITY,name,id", *(f'{quantity},"a, b",{image_id}' for image_id, quantity in ROWS)]
    (tmp_path / "bins.csv").write_text("\ufeff" + "\r\n".join(lines))
    assert pairs(tmp_path / "bins.csv") == EXPECTED


def test_parquet(tmp_path: Path) -> None:
    ids, quantities = zip(*ROWS, strict=True)
    pq.write_table(pa.table({"image_id": ids, "quantity": pa.array(quantities, pa.int16())}), tmp_path / "bins.parquet")
    assert pairs(tmp_path / "bins.parquet") == EXPECTED


@pytest.mark.parametrize("indent", [None, 1])
def test_json_of_objects(tmp_path: Path, indent: int | None) -> None:
    rows = [{"image_id": image_id, "quantity": quantity, "more": [1, "]"]} for image_id, quantity in ROWS]
    (tmp_path / "bins.json").write_text(json.dumps(rows, indent=indent))
    assert pairs(tmp_path / "bins.json") == EXPECTED


def test_the_challenges_list_counts_from_zero(tmp_path: Path) -> None:
    (tmp_path / "counting_train.json").write_text("[[0, 3], [99999, 5], [1043, 2]]")
    assert pairs(tmp_path / "counting_train.json") == [("00001", 3), ("01044", 2), ("100000", 5)]


def test_bad_rows_are_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [
        ("00001", 3),
        ("00001", 4),
        ("a", 1),
        ("../x", 1),
        ("00002", -1),
        ("00003", 10**30),
        ("00004", ""),
        ("00005", "2.5"),
    ]
    (tmp_path / "bins.csv").write_text(csv_text(rows) + "00006\n")
    rejects = [outcome.reason for outcome in outcomes(tmp_path / "bins.csv") if isinstance(outcome, Reject)]
    assert rejects[:4] == ["duplicate id", "bad id", "bad id", "bad quantity"]
    assert rejects[4:] == ["bad quantity", "no quantity", "bad quantity", "no quantity"]
    assert pairs(tmp_path / "bins.csv") == [("00001", 3)]


def test_a_column_that_a_blank_made_floating_point_keeps_its_counts(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["00001", "00002", "00003"], "quantity": [3, None, 1]})
    table.to_csv(tmp_path / "bins.csv", index=False)
    table.to_parquet(tmp_path / "bins.parquet", index=False)
    table.to_json(tmp_path / "bins.json", orient="records", double_precision=1)
    for name in ("bins.csv", "bins.parquet", "bins.json"):
        assert pairs(tmp_path / name) == [("00001", 3), ("00003", 1)]
        [reject] = [outcome for outcome in outcomes(tmp_path / name) if isinstance(outcome, Reject)]
        assert reject.reason == "no quantity"


def test_ids_that_were_read_as_numbers_are_refused_because_zeros_are_lost(tmp_path: Path) -> None:
    (tmp_path / "bins.json").write_text('[{"image_id": 1044, "quantity": 3}]')
    [reject] = outcomes(tmp_path / "bins.json")
    assert isinstance(reject, Reject)
    assert reject.reason == "bad id"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bins.csv", b"a,b\n1,2\n", r"has no column image_id \(or id, image\); it has a, b"),
        ("bins.csv", b"", "has no column image_id .*; it has none"),
        ("bins.csv", b"image_id,quantity\n\xff,1\n", "cannot be read as a table"),
        ("bins.csv.gz", b"no gzip", "cannot be read as a table"),
        ("bins.parquet", b"no parquet", "cannot be read as a table"),
        ("bins.json", b"{}", "is not a JSON array"),
        ("bins.json", b"[[0, 3], [1", "cannot be read as a table"),
        ("bins.json", b"[" * 100_000, "cannot be read as a table"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        outcomes(tmp_path / name)


@given(st.lists(st.tuples(st.text(max_size=8), st.integers() | st.text(max_size=4) | st.none()), max_size=8))
def test_every_json_row_is_a_record_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "bins.json"
    path.write_text(json.dumps([{"image_id": image_id, "quantity": quantity} for image_id, quantity in rows]))
    found = outcomes(path)
    assert len(found) == len(rows)
    assert all(IMAGE_ID.fullmatch(record.image_id) for record in found if isinstance(record, Record))


def test_a_json_table_longer_than_one_read_is_whole(tmp_path: Path) -> None:
    rows = [{"image_id": f"{number:06d}", "quantity": number % 7, "pad": "x" * 300} for number in range(8000)]
    (tmp_path / "bins.json").write_text(json.dumps(rows))
    assert len(pairs(tmp_path / "bins.json")) == 8000


def test_a_limit_samples_blocks(tmp_path: Path) -> None:
    (tmp_path / "bins.csv").write_text(csv_text((f"{number:05d}", 1) for number in range(400)))
    sample = pairs(tmp_path / "bins.csv", limit=60, seed=3)
    assert len(sample) == 60
    assert len({int(image_id) // 20 for image_id, _ in sample}) == 3


def test_tables_are_told_from_buckets() -> None:
    assert is_table("s3://bucket/bins.csv.gz")
    assert is_table("bins.PARQUET")
    assert not is_table("s3://bucket/csv")


def test_a_bucket_and_a_table_can_be_joined(world: World) -> None:
    both = Source.parse("s3://photos/of#bins.csv.gz")
    assert (both.metadata, both.photo_bucket()) == ("bins.csv.gz", "s3://photos/of")
    assert Source.parse("s3://bucket") == Source("s3://bucket", "s3://bucket")
    with pytest.raises(UserError, match=r"holds no photos; write SOURCE=s3://bucket#bins\.csv"):
        Source.parse("bins.csv").photo_bucket()


def test_the_samples_counts(world: World, sample: Path) -> None:
    tally = world.ingest(source=str(sample / "counts.csv.gz"))
    assert (tally.records, tally.rejects.total()) == (364_073, 0)


def test_a_table_in_a_bucket_is_read_and_split_by_blocks_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("bins.csv", csv_text((f"{number:05d}", number % 8) for number in range(600)).encode())
    world.ingest(source=f"{world.source}/bins.csv")
    world.split()
    assert "rests on blocks of neighbouring ids alone" in capsys.readouterr().out
