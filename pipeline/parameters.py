"""The pipeline's parameters: names, defaults and what is refused before anything starts."""

import json
from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from components.core import defaults
from components.core.errors import UserError
from components.core.layout import DATA_BUCKET, MODELS_BUCKET
from components.core.validation import first_problem


class Parameters(BaseModel):
    """Every parameter of a run. 0 or an empty string means: the recipe's own value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("generated", min_length=1, description="generated, a folder, or s3://bucket")
    limit: int = Field(0, ge=0, description="use about this many bins, a seeded sample of id blocks; 0 is all")
    max_count: int = Field(defaults.MAX_COUNT, ge=2, le=20, description="count 1 to this many; other bins are `extra`")
    seed: int = Field(defaults.SEED, ge=0, lt=2**31, description="of every random choice")
    validation_share: float = Field(defaults.VALIDATION_SHARE, description="share of the bins, or a number of them")
    test_share: float = Field(defaults.TEST_SHARE, description="share of the bins, or a number of them")
    file_lists: str = Field("", description="a list of ids in the original's JSON form, as a path or s3:// address")
    max_reject_share: float = Field(0.01, ge=0, le=1, description="the download fails above this share of rejects")
    recipe: Literal["finetune", "frozen", "original"] = Field("finetune", description="how to train")
    epochs: int = Field(0, ge=0, le=1000, description="passes over the training bins")
    image_size: int = Field(0, description="side of the squashed photo in pixels, 32 to 1024")
    backbone: str = Field("", description="a timm or torchvision model")
    weights: str = Field("", description="the backbone's weights, as a path or s3:// address")
    overrides: str = Field("{}", description="further fields of the recipe, as a JSON object")
    tune: bool = Field(False, description="try learning rates and batch sizes first, and train with the best")
    trials: int = Field(defaults.TRIALS, ge=1, le=100, description="number of trials with TUNE=true")
    margin: float = Field(0.0, ge=0, lt=1, description="accuracy that the gate asks for above the baseline's interval")
    force: bool = Field(False, description="deploy whatever the gate says")
    data_uri: str = Field(f"s3://{DATA_BUCKET}", pattern="^s3://", description="our bucket for shards and checkpoints")
    models_uri: str = Field(f"s3://{MODELS_BUCKET}", pattern="^s3://", description="our bucket for model versions")

    @field_validator("validation_share", "test_share")
    @classmethod
    def _share_or_number(cls, value: float) -> float:
        if not 0 < value < 0.5 and not (value >= 1 and value.is_integer()):
            raise ValueError("Input should be a share between 0 and 0.5, or a whole number of bins")
        return value

    @field_validator("image_size")
    @classmethod
    def _sensible_size(cls, value: int) -> int:
        if value != 0 and not 32 <= value <= 1024:
            raise ValueError("Input should be 0 or between 32 and 1024")
        return value

    @field_validator("overrides")
    @classmethod
    def _json_object(cls, value: str) -> str:
        try:
            valid = isinstance(json.loads(value), dict)
        except json.JSONDecodeError:
            valid = False
        if not valid:
            raise ValueError('Input should be a JSON object such as {"learning_rate": 0.001}')
        return value


def parse_parameters(assignments: list[str]) -> Parameters:
    """Read `NAME=value` words (names in either case). Raises UserError naming the first bad one and what is allowed."""
    values: dict[str, str] = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"'{word}' is not of the form NAME=value.")
        name = name.lower()
        if name not in Parameters.model_fields:
            close = get_close_matches(name, Parameters.model_fields, n=1)
            hint = f"did you mean {close[0].upper()}?" if close else f"there are {_names()}."
            raise UserError(f"There is no parameter {name.upper()}; {hint}")
        values[name] = value
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error)
        value = f"{problem.where.upper()}={problem.value}"
        raise UserError(f"{value} cannot be used: {problem.message}.") from error


def _names() -> str:
    return ", ".join(name.upper() for name in Parameters.model_fields)
