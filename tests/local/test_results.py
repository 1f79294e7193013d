"""The folder of results: photos to try the endpoint with."""

from pathlib import Path

import pandas as pd

from components.core.layout import image_key
from components.core.store import open_store
from pipeline.local_store import RunningStore
from pipeline.results import REPORTS, copy_photos


def test_one_test_photo_of_each_count_comes_along(tmp_path: Path, store_environment: RunningStore) -> None:
    bins = [("1044", 1, "test"), ("01044", 2, "test"), ("00003", 2, "test"), ("00004", 9, "extra")]
    predictions = pd.DataFrame(bins, columns=["image_id", "quantity", "subset"])
    predictions.to_parquet(tmp_path / REPORTS["predictions"])
    source = open_store("s3://bin-source/results")
    for image_id, _, _ in bins:
        source.put(image_key(image_id), f"photo of {image_id}".encode())
    places = copy_photos(tmp_path, "s3://bin-source/results")
    assert [place.name for place in places] == ["1044.jpg", "01044.jpg"]
    assert [(tmp_path / place).read_text() for place in places] == ["photo of 1044", "photo of 01044"]
