"""The real sample; every test skips where it is absent."""

import tarfile
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.core.records import Record, Reject
from components.download.fetch import Photo, check
from components.download.near import NEAR_BITS, near_groups, near_limit
from components.ingest_metadata.parse import parse_metadata
from components.split.divide import SplitOptions, divide
from components.split.leaks import check_leaks


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        opened = [(entry, tar.extractfile(entry)) for entry in tar]
        return [(entry.name.split("/")[-1].split(".")[0], file.read()) for entry, file in opened if file]


@pytest.fixture(scope="module")
def records(sample: Path) -> list[Record]:
    return [parse_metadata(image_id, data) for image_id, data in members(sample / "metadata.tar.gz")]


def test_all_metadata_is_read(records: list[Record]) -> None:
    assert len(records) == 10_000
    assert sum(record.consistent is False for record in records) == 6
    counts = Counter(min(record.quantity, 6) for record in records)
    assert counts == {0: 179, 1: 768, 2: 1440, 3: 1725, 4: 1519, 5: 1168, 6: 3201}


def test_59_pairs_have_identical_contents_and_the_split_keeps_them_apart(records: list[Record]) -> None:
    by_contents = Counter(record.contents for record in records if record.contents)
    assert sum(len(list(combinations(range(count), 2))) for count in by_contents.values()) == 59
    for seed in range(3):
        splits = divide(pd.DataFrame(records), SplitOptions(seed=seed)).splits
        assert set(check_leaks(splits).shared_contents.values()) == {0}
        sizes = splits["subset"].value_counts(normalize=True)
        assert sizes["test"] / (1 - sizes["extra"]) == pytest.approx(0.2, abs=0.03)


@pytest.mark.slow
def test_near_identical_photos_are_the_same_pod_again(sample: Path) -> None:
    checked = [check(image_id, data) for image_id, data in members(sample / "bin-images.tar")]
    assert not any(isinstance(outcome, Reject) for outcome in checked)
    photos = [outcome for outcome in checked if isinstance(outcome, Photo)]
    hashes = [photo.hash for photo in photos]
    assert near_limit(hashes) == NEAR_BITS
    groups = [[int(photos[place].image_id) for place in group] for group in near_groups(hashes)]
    assert 35 <= len(groups) <= 41  # 41 pairs
    assert all(np.diff(sorted(group)).max() <= 2 for group in groups)
