"""Parameters: what is refused, with which sentence, before anything starts."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import UserError
from pipeline.parameters import Parameters, parse_parameters

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("epochs", "'epochs' is not of the form NAME=value."),
        ("EPOCH=3", "There is no parameter EPOCH; did you mean EPOCHS?"),
        ("EPOCHS=many", "EPOCHS=many cannot be used"),
        ("EPOCHS=-1", "EPOCHS=-1 cannot be used"),
        ("RECIPE=cake", "it should be 'finetune', 'frozen' or 'original'"),
        ("IMAGE_SIZE=7", "it should be 0 or between 32 and 1024"),
        ("MAX_COUNT=1", "MAX_COUNT=1 cannot be used"),
        ("LIMIT=1.5", "LIMIT=1.5 cannot be used"),
        ("TEST_SHARE=0.9", "TEST_SHARE=0.9 cannot be used"),
        ("OVERRIDES=[1]", "it should be a JSON object"),
        ("SOURCE=", "SOURCE= cannot be used"),
        ("DATA_URI=gs://bucket", "DATA_URI=gs://bucket cannot be used"),
    ],
)
def test_a_bad_parameter_is_answered_with_one_sentence(word: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        parse_parameters([word])
    assert "\n" not in str(refused.value)


def test_names_are_taken_in_either_case() -> None:
    assert parse_parameters(["EPOCHS=3"]) == parse_parameters(["epochs=3"]) == Parameters(epochs=3)


def test_the_command_line_ends_with_status_1_and_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "RECIPE=cake"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: RECIPE=cake cannot be used")
    assert "Traceback" not in ended.stderr + ended.stdout


def test_make_knows_every_parameter() -> None:
    listed = re.search(r"^PARAMETERS := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed is not None
    assert set(listed[1].replace("\\", " ").split()) == {name.upper() for name in Parameters.model_fields}


def test_every_parameter_is_one_of_the_pipeline_with_the_same_default() -> None:
    from pipeline.dag import build_pipeline

    signature = inspect.signature(build_pipeline().pipeline_func)
    for name, field in Parameters.model_fields.items():
        assert name in signature.parameters
        if name != "source":  # a laptop draws its bins, a cluster reads the public bucket
            assert signature.parameters[name].default == field.default
