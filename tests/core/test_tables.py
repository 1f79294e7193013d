"""Tables as people make them: whatever the program that wrote them, a row says which file holds how many."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from components.core.errors import UserError
from components.core.tables import PhotoRow, is_table_file, read_photo_table

ROWS = [("a/IMG_0001.JPG", 3), ("Über uns.png", 0)]


def read(path: Path) -> list[tuple[str, int | None]]:
    return [(row.file, row.count) for row in read_photo_table(path)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_any_usual_separator_and_mark_of_order(tmp_path: Path, separator: str, encoding: str) -> None:
    lines = [separator.join(("File", " Count ")), *(f"{file}{separator}{count}" for file, count in ROWS)]
    (tmp_path / "counts.csv").write_text("\r\n".join(lines), encoding=encoding)
    assert read(tmp_path / "counts.csv") == ROWS


def test_packed_text_parquet_and_json(tmp_path: Path) -> None:
    table = pd.DataFrame(ROWS, columns=["photo", "quantity"])
    table.to_parquet(tmp_path / "counts.parquet")
    (tmp_path / "counts.json").write_text(table.to_json(orient="records"))
    (tmp_path / "counts.tsv.gz").write_bytes(gzip.compress(table.to_csv(sep="\t", index=False).encode()))
    for name in ("counts.parquet", "counts.json", "counts.tsv.gz"):
        assert is_table_file(tmp_path / name)
        assert read(tmp_path / name) == ROWS


def test_further_columns_are_kept_as_written(tmp_path: Path) -> None:
    text = "file,count,bin,site,camera,taken_at,remark\n1.jpg,2,007,North,c1,2026-11-26,odd\n2.jpg,1\n"
    (tmp_path / "counts.csv").write_text(text)
    assert read_photo_table(tmp_path / "counts.csv") == [
        PhotoRow(1, "1.jpg", 2, "", "007", "North", "c1", "2026-11-26"),
        PhotoRow(2, "2.jpg", 1, ""),
    ]


@pytest.mark.parametrize(
    ("written", "count", "problem"),
    [
        ("3.0", 3, ""),
        ('"3,0"', 3, ""),
        ("", None, "has no count"),
        ("three", None, "'three', not a whole number"),
        ("2.5", None, "'2.5', not a whole number"),
        ("-1", None, "'-1', not a whole number"),
    ],
)
def test_a_count_is_a_whole_number_or_its_problem_is_told(
    tmp_path: Path, written: str, count: int | None, problem: str
) -> None:
    (tmp_path / "counts.csv").write_text(f"file,count\na.jpg,{written}\n")
    [row] = read_photo_table(tmp_path / "counts.csv")
    assert row.count == count
    assert problem in row.problem


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"photo;colour\na.jpg;red\n", r"has no column count \(or quantity, .*\); it has photo, colour"),
        ("file,count\nÜ.jpg,1\n".encode("latin-1"), "is not UTF-8.*save it as UTF-8"),
    ],
)
def test_what_is_no_table_of_photos_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "counts.csv").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_photo_table(tmp_path / "counts.csv")


def test_a_number_in_a_json_object_is_a_file_name_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "counts.json").write_text(json.dumps([{"file": 17, "count": 2.0}]))
    assert read(tmp_path / "counts.json") == [("17", 2)]
