"""Parameters: what is refused, with which sentence, before anything starts."""

import argparse
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.errors import UserError
from components.core.recipe import Recipe
from pipeline.cli import parameters_table
from pipeline.compile import placement_from
from pipeline.parameters import TABLE, ClusterParameters, Parameters, Sending, parse_parameters

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("epochs", "'epochs' is not of the form NAME=value."),
        ("EPOCH=3", "There is no parameter EPOCH; did you mean EPOCHS?"),
        ("EPOCHS=many", "EPOCHS=many cannot be used: it should be a whole number, 0 to 10,000."),
        ("EPOCHS=-1", "EPOCHS=-1 cannot be used: it should be a whole number, 0 to 10,000."),
        ("FORCE=maybe", "FORCE=maybe cannot be used: it should be true or false."),
        ("RECIPE=cake", "it should be 'original', 'frozen', 'finetune' or 'best'"),
        ("IMAGE_SIZE=7", "it should be 0 or between 32 and 1024"),
        ("MAX_COUNT=1", "MAX_COUNT=1 cannot be used"),
        ("LIMIT=1.5", "LIMIT=1.5 cannot be used"),
        ("TEST_SHARE=0.9", "TEST_SHARE=0.9 cannot be used"),
        ("OVERRIDES=[1]", "it should be a JSON object"),
        ("SOURCE=", "SOURCE= cannot be used: it should not be empty."),
        ("DATA_URI=gs://bucket", "DATA_URI=gs://bucket cannot be used: it should begin with s3://."),
    ],
)
def test_a_bad_parameter_is_answered_with_one_sentence(word: str, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)) as refused:
        parse_parameters([word])
    assert "\n" not in str(refused.value)


def test_make_parameters_tells_choices_what_0_means_and_every_field_of_overrides() -> None:
    lines = parameters_table().splitlines()
    told = {words[0]: line for line in lines if (words := line.split())}
    assert "original, frozen, finetune, best" in told["RECIPE"]
    for name in ("LIMIT", "EPOCHS", "IMAGE_SIZE"):
        assert "0 is " in told[name]
    own = {"name", "epochs", "image_size", "backbone"}  # have a parameter each
    assert set(Recipe.model_fields) - own == {
        line.split()[0] for line in lines[lines.index("fields of OVERRIDES:") + 1 :]
    }
    assert "adadelta, sgd, adamw; original adadelta frozen adamw finetune adamw" in told["optimiser"]
    assert "above 0 to 100" in told["learning_rate"]


def test_names_are_taken_in_either_case() -> None:
    assert parse_parameters(["EPOCHS=3"]) == parse_parameters(["epochs=3"]) == Parameters(epochs=3)


def test_the_command_line_ends_with_status_1_and_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "RECIPE=cake"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: RECIPE=cake cannot be used")
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_parameter_of_another_door_is_refused_and_says_which() -> None:
    with pytest.raises(UserError, match="PRESET is for make compile and make submit and make schedule, not for make p"):
        parse_parameters(["EPOCHS=3", "PRESET=gke"])


def test_a_parameter_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="TUNE is given twice, as false and as true"):
        parse_parameters(["tune=false", "TUNE=true"])


def made(tmp_path: Path, *words: str, **environment: str) -> list[str]:
    """What `python -m pipeline` gets as arguments from make."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    python.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    python.chmod(0o755)
    ended = subprocess.run(
        ["make", "--silent", "--assume-old=.venv/ready", *words, f"BIN={python.parent}"],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [word for word in json.loads(ended.stdout) if not word.startswith("BIN=")]


@pytest.mark.parametrize("target", ["pipeline", "submit"])
def test_make_hands_values_on_as_they_were_given_in_any_case_of_letters(target: str, tmp_path: Path) -> None:
    values = [
        "SOURCE=/tmp/o'brien",
        'OVERRIDES={"batch_size": 8}',
        "epochs=3",
        "Weights=a $b $(c) `d` \\e #f",
        "x=1 y=2",
    ]
    assert sorted(made(tmp_path, target, *values)) == sorted(
        ["-m", "pipeline", {"pipeline": "run"}.get(target, target), *values]
    )


def test_make_takes_nothing_from_the_environment(tmp_path: Path) -> None:
    by_accident = dict.fromkeys(TABLE, "1") | {name.upper(): "1" for name in TABLE}
    assert made(tmp_path, "submit", "EPOCHS=3", **by_accident) == ["-m", "pipeline", "submit", "EPOCHS=3"]


def test_variables_of_makes_own_targets_are_no_parameters(tmp_path: Path) -> None:
    assert made(tmp_path, "pipeline", "MODEL=m", "image=x.jpg") == ["-m", "pipeline", "run"]


def test_every_parameter_of_a_run_is_one_of_the_dag_with_the_same_type_and_default() -> None:
    from pipeline.dag import build_pipeline

    signature = inspect.signature(build_pipeline().pipeline_func)
    others = {"run", "pruned", "only_news", "pipeline_image", "train_image"}  # made by the doors, never given
    assert set(signature.parameters) - others == set(Parameters.model_fields) | set(ClusterParameters.model_fields)
    for name, field in Parameters.model_fields.items():
        parameter = signature.parameters[name]
        assert parameter.annotation in (field.annotation, str)
        if name != "source":  # a laptop draws its bins, a cluster reads the public bucket
            assert parameter.default == field.default


def test_what_is_compiled_and_sent_has_the_defaults_of_the_table() -> None:
    from pipeline.follow import START_TIMEOUT_SECONDS
    from pipeline.resources import PRESETS, SERVICE_ACCOUNT, Placement
    from pipeline.submit import PIPELINE

    assert placement_from(argparse.Namespace()) == Placement()
    assert all(preset in TABLE["preset"].meaning for preset in PRESETS)
    sending = Sending()
    assert (sending.experiment, sending.service_account) == (PIPELINE, SERVICE_ACCOUNT)
    assert sending.start_timeout == START_TIMEOUT_SECONDS


def test_the_readme_of_the_cluster_has_the_parameters_that_only_a_cluster_has() -> None:
    table = (ROOT / "manifests" / "README.md").read_text().partition("| option | |")[2].partition("\n\n")[0]
    told = {name.lower() for name in re.findall(r"[A-Z]+(?:_[A-Z]+)*(?==|`)", table)}
    assert told <= set(TABLE)
    silent = {"snapshot", "champion", "no_retries", "kfp_host", "cron"}  # told in the text, or for experts
    assert {name for name in TABLE if name not in Parameters.model_fields} - silent <= told
