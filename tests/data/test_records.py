from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.records import (
    RECORDS_SCHEMA,
    Record,
    Reject,
    TableWriter,
    block_of,
    read_records,
    read_rejects,
    read_splits,
    write_rejects,
)


def test_the_padded_and_the_unpadded_id_of_one_number_are_apart() -> None:
    assert block_of("1044") != block_of("01044")
    assert block_of("01044") == block_of("01045")


def test_five_and_six_digits_are_one_series() -> None:
    assert block_of("99999").padded
    assert block_of("100000").padded
    assert block_of("99999").number + 1 == block_of("100000").number


def test_records_are_read_back_as_written(tmp_path: Path) -> None:
    rows = [Record("1", 3, 2, "ab", True, 1.5, None), Record("00001", 0), Record("123456", 7, 7, "cd", False)]
    with TableWriter.open(tmp_path / "records", RECORDS_SCHEMA, rows_per_group=2) as table:
        table.append(rows)
    read = read_records(tmp_path / "records")
    assert read["image_id"].tolist() == ["1", "00001", "123456"]
    assert read["quantity"].tolist() == [3, 0, 7]
    assert read["consistent"].tolist() == [True, None, False]


def test_a_table_whose_writing_failed_is_not_there(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Record]:
        yield Record("1", 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), TableWriter.open(tmp_path / "records", RECORDS_SCHEMA) as table:
        table.append(interrupted())
    assert list(tmp_path.iterdir()) == []


def test_rejects_are_read_back_as_written(tmp_path: Path) -> None:
    rejects = [Reject("metadata/\n.json", "outside the layout", "é"), Reject("a", "b", "c")]
    write_rejects(tmp_path / "rejects", rejects)
    assert read_rejects(tmp_path / "rejects") == rejects


def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "splits").write_text("no table")
    write_rejects(tmp_path / "rejects", [])
    for name in ("splits", "rejects"):
        with pytest.raises(UserError, match="not a table"):
            read_splits(tmp_path / name)
    with pytest.raises(UserError, match="no table"):
        read_splits(tmp_path / "none")
