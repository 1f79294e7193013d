"""Labels out of what people counted."""

import io
from datetime import UTC, datetime
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from components.core.layout import RECOUNTS_PREFIX
from components.core.recounts import Labels, Recount, keep, kept, read_labels
from components.core.store import open_store
from pipeline.local_store import RunningStore


def label(file: str, recorded: int = 3, counted: int = 2, is_label: bool = True) -> Recount:
    return Recount(file, recorded, counted, "ranked", 1.0, None, is_label=is_label)


def test_a_recount_holds_for_its_path_and_for_an_id_that_only_it_names() -> None:
    labels = Labels.of([[label("bin-images/00001.jpg"), label("a/00002.jpg"), label("b/00002.jpg", counted=5)]])
    assert labels.find("00001", "") == label("bin-images/00001.jpg")
    assert labels.find("00002", "") is None
    assert labels.find("77", "b/00002.jpg") == label("b/00002.jpg", counted=5)
    assert labels.find("00001", "00001.jpg") is None  # another folder's photo


def test_the_later_of_two_recounts_counts_and_what_is_no_label_never_does() -> None:
    labels = Labels.of([[label("a.jpg", counted=2)], [label("a.jpg", counted=4)], [label("b.jpg", is_label=False)]])
    assert labels.find("", "a.jpg") == label("a.jpg", counted=4)
    assert labels.find("", "b.jpg") is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6),
)
def test_equal_labels_and_only_these_name_one_state(
    first: list[tuple[str, int]], second: list[tuple[str, int]]
) -> None:
    states = [Labels.of([[label(file, counted=count)] for file, count in one]) for one in (first, second)]
    same = {file: one.counted for file, one in states[0].by_file.items()} == {
        file: one.counted for file, one in states[1].by_file.items()
    }
    assert (states[0].named("here") == states[1].named("here")) is same
    assert (states[0].named("here") == "here") is (not first)


def test_a_list_that_was_kept_before_there_were_labels_is_read_and_labels_nothing(
    store_environment: RunningStore,
) -> None:
    store = open_store(f"s3://bin-counter/{uuid4().hex}")
    old = {"file": "a.jpg", "bin": "", "site": "", "by": "Ann", "when": "", "why": "random", "kept_at": "2026-11-01"}
    data = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([{**old, "recorded": 3, "counted": 2, "chance": 0.1, "probability": None}]), data
    )
    store.put(f"{RECOUNTS_PREFIX}old.parquet", data.getvalue())
    keep(store, [label("b.jpg")], datetime(2026, 11, 2, tzinfo=UTC))
    assert list(kept(store)) == [[Recount("a.jpg", 3, 2, "random", 0.1, None, by="Ann")], [label("b.jpg")]]
    assert list(read_labels(store).by_file) == ["b.jpg"]
