"""What a local run is given on the disk: refused early when it cannot be used, handed on by what it holds."""

from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.store import open_store
from pipeline.inputs import by_content, check_inputs
from pipeline.local_store import RunningStore
from pipeline.parameters import Parameters


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"source": "nowhere"}, "SOURCE=nowhere is not a folder"),
        ({"backbone": "resnet99"}, "no backbone 'resnet99'"),
        ({"overrides": '{"learning_rat": 1}'}, "no field 'learning_rat'"),
        ({"weights": "nowhere.pth"}, "WEIGHTS=nowhere.pth: there is no such file"),
        ({"file_lists": "nowhere.json"}, "FILE_LISTS=nowhere.json: there is no such file"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_inputs(Parameters.model_validate(values))


@pytest.mark.parametrize("weights", ["", "random", "s3://bucket/weights.pth"])
def test_what_is_no_path_stays_as_it_is(weights: str) -> None:
    parameters = Parameters.model_validate({"weights": weights})
    check_inputs(parameters)
    assert by_content(parameters) == parameters


def test_a_changed_file_becomes_another_address(tmp_path: Path, store_environment: RunningStore) -> None:
    lists = tmp_path / "train.json"
    lists.write_text('{"1": ["data/metadata/00001.json"]}')
    parameters = Parameters.model_validate({"file_lists": str(lists)})
    first, again = by_content(parameters), by_content(parameters)
    bucket, key = first.file_lists.removeprefix("s3://").split("/", 1)
    assert open_store(f"s3://{bucket}").get(key) == lists.read_bytes()
    lists.write_text('{"1": ["data/metadata/00002.json"]}')
    assert first == again
    assert by_content(parameters).file_lists != first.file_lists


def test_a_folder_of_lists_is_stored_whole(tmp_path: Path, store_environment: RunningStore) -> None:
    for subset in ("train", "test"):
        (tmp_path / f"{subset}.json").write_text("{}")
    place = by_content(Parameters.model_validate({"file_lists": str(tmp_path)})).file_lists
    assert {entry.key.rpartition("/")[2] for entry in open_store(place).list()} == {"train.json", "test.json"}
