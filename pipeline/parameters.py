"""The table of parameters: name, type, range, default, meaning, and where each may be used.

A model holds those of one kind; `make parameters` prints them, Makefile, command lines and the DAG's signature follow.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from components.core import defaults
from components.core.errors import UserError
from components.core.layout import DATA_BUCKET, MODELS_BUCKET
from components.core.recipe import LARGEST_SIZE, MOST_EPOCHS, RECIPES, SMALLEST_SIZE, Recipe, RecipeName
from components.core.validation import Problem, first_problem
from pipeline import pool


class Door(StrEnum):
    """Where a parameter may be used."""

    PIPELINE = "make pipeline"
    COMPILE = "make compile"
    SUBMIT = "make submit"
    SCHEDULE = "make schedule"


class _Kind(BaseModel):
    """Parameters of one kind, which may be used at the same doors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    doors: ClassVar[tuple[Door, ...]]


AnyKind = TypeVar("AnyKind", bound=_Kind)


class Parameters(_Kind):
    """What a run does, on this machine and on a cluster. 0 or an empty string means: the recipe's own value."""

    doors = (Door.PIPELINE, Door.SUBMIT, Door.SCHEDULE)

    source: str = Field("generated", min_length=1, description="generated, a folder, or s3://bucket")
    limit: int = Field(0, ge=0, description="use about this many bins, a seeded sample of id blocks; 0 is all")
    max_count: int = Field(defaults.MAX_COUNT, ge=2, le=20, description="count 1 to this many; other bins are `extra`")
    seed: int = Field(defaults.SEED, ge=0, lt=2**31, description="of every random choice")
    validation_share: float = Field(
        defaults.VALIDATION_SHARE, description="share of the bins (below 0.5), or a number of them"
    )
    test_share: float = Field(defaults.TEST_SHARE, description="share of the bins (below 0.5), or a number of them")
    file_lists: str = Field("", description="a list of ids in the original's JSON form, as a path or s3:// address")
    max_reject_share: float = Field(0.01, ge=0, le=1, description="the download fails above this share of rejects")
    recipe: RecipeName = Field("finetune", description="how to train")
    epochs: int = Field(
        0, ge=0, le=MOST_EPOCHS, description="passes over the training bins; 0 is the recipe's own number"
    )
    image_size: int = Field(
        0, description=f"side of the squashed photo in pixels, {SMALLEST_SIZE} to {LARGEST_SIZE}; 0 is the recipe's own"
    )  # fmt: skip
    backbone: str = Field("", description="a timm or torchvision model; the recipe's own if not given")
    weights: str = Field(
        "", description="the backbone's weights, as a path or s3:// address, or random; its usual ones if not given"
    )
    overrides: str = Field(
        "{}", description='fields of the recipe that differ, such as {"batch_size": 16}; `make parameters` lists them'
    )
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
            raise ValueError("it should be a share between 0 and 0.5, or a whole number of bins")
        return value

    @field_validator("image_size")
    @classmethod
    def _sensible_size(cls, value: int) -> int:
        if value != 0 and not SMALLEST_SIZE <= value <= LARGEST_SIZE:
            raise ValueError(f"it should be 0 or between {SMALLEST_SIZE} and {LARGEST_SIZE}")
        return value

    @field_validator("overrides")
    @classmethod
    def _recipe_fields(cls, value: str) -> str:
        return _json_object(value, '{"learning_rate": 0.001}')


class ClusterParameters(_Kind):
    """What else a run on a cluster takes; what is not given stays as the pipeline was compiled."""

    doors = (Door.SUBMIT, Door.SCHEDULE)

    snapshot: str = Field("", description="a state of the source that was ingested; looked at if not given")
    champion: str = Field("", description="version to compare with; the one in service if not given")
    deploy_options: str = Field("{}", description="how to deploy, as a JSON object (components/deploy)")
    accelerator_type: Annotated[str, BeforeValidator(pool.accelerator_type)] = Field(
        "", description="resource that a GPU is asked for by, such as nvidia.com/gpu"
    )
    accelerator_count: Annotated[str, BeforeValidator(pool.accelerator_count)] = Field(
        "", description="GPUs of a training pod, 0 to 99"
    )
    gpu_node_selector: Annotated[dict[str, str], BeforeValidator(pool.parse_node_selector)] = Field(
        {}, description="labels of the GPU pool's nodes, as a JSON object"
    )
    gpu_tolerations: Annotated[list[dict[str, Any]], BeforeValidator(pool.parse_tolerations)] = Field(
        [], description="taints of the GPU pool that training tolerates, as a JSON list"
    )
    train_cpu: Annotated[str, BeforeValidator(pool.cpu)] = Field("", description="CPUs of a training pod, such as 4")
    train_memory: Annotated[str, BeforeValidator(pool.memory)] = Field(
        "", description="memory of a training pod, such as 16Gi"
    )

    @field_validator("deploy_options")
    @classmethod
    def _deploy_options(cls, value: str) -> str:
        return _json_object(value, '{"canary_percent": 10}')


class Compilation(_Kind):
    """Constants of the compiled pipeline."""

    doors = (Door.COMPILE, Door.SUBMIT, Door.SCHEDULE)

    preset: str = Field("cpu", description="kind of cluster: cpu (no GPU), gke, eks, aks or onprem")
    train_on: Literal["pod", "trainjob"] = Field(
        "pod", description="pod: the KFP task itself; trainjob: the pods of a TrainJob"
    )
    nodes: int = Field(1, ge=1, description="nodes of a TrainJob")
    queue: str = Field("", description="Kueue's LocalQueue that admits a TrainJob")
    no_retries: bool = Field(False, description="no step is tried again")
    shm_size: str = Field("2Gi", description="size of /dev/shm of training")
    train_timeout: int = Field(86_400, ge=60, description="seconds after which training is stopped")
    step_requests: str = Field("{}", description="cpu and memory by step, as a JSON object (pipeline/resources.py)")
    registry: str = Field("", description="registry and path that the images were pushed to")
    tag: str = Field("", description="tag of the images; the git revision if not given")

    @field_validator("shm_size")
    @classmethod
    def _size(cls, value: str) -> str:
        if not value[:-2].isdecimal() or not value.endswith(("Mi", "Gi")) or value.startswith("0"):
            raise ValueError("it should be a size such as 2Gi")
        return value


class Sending(_Kind):
    """Where a run goes, as whom, and what `make submit` does meanwhile."""

    doors = (Door.SUBMIT, Door.SCHEDULE)

    kfp_host: str = Field("", description="address of KFP, or in-cluster")
    namespace: str = Field(
        "",
        description="your profile's namespace, on a Kubeflow with several users; of the compiled objects: kubeflow",
        json_schema_extra={"doors": [Door.COMPILE, Door.SUBMIT, Door.SCHEDULE]},
    )
    experiment: str = Field("bin-counter", description="experiment of the run")
    service_account: str = Field("bin-counter-pipeline", description="service account of the steps")
    dry_run: bool = Field(False, description="print what would be sent, and send nothing")
    start_timeout: int = Field(
        1200, ge=60, description="seconds that a step may wait for its pod before following ends"
    )
    no_follow: bool = Field(False, description="start the run and return")
    cron: str = Field(
        "",
        description="when to run, five fields in UTC such as 0 3 * * 1",
        json_schema_extra={"doors": [Door.SCHEDULE]},
    )


KINDS: tuple[type[_Kind], ...] = (Parameters, ClusterParameters, Compilation, Sending)


@dataclass(frozen=True)
class Row:
    """A parameter as people read it."""

    name: str
    takes: str
    default: str
    meaning: str
    doors: tuple[Door, ...]


def rows(kind: type[_Kind]) -> Iterator[Row]:
    """The rows of one kind, from its fields."""
    properties = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        doors = tuple(Door(door) for door in properties[name].get("doors", kind.doors))
        default = json.dumps(field.default) if not isinstance(field.default, str) else field.default
        yield Row(name.upper(), _takes(properties[name]), default, str(field.description), doors)


def _takes(schema: dict[str, Any]) -> str:
    """Type and range of a field in words."""
    if "enum" in schema:
        return ", ".join(schema["enum"])
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
    kind = words.get(schema["type"], "JSON")
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    above = schema.get("exclusiveMinimum")
    if low is None and above is not None:
        return f"{kind}, above {above:,}" + (f" to {high:,}" if high is not None else "")
    if low is None:
        return kind
    bound = f" to {'' if 'maximum' in schema else 'below '}{high:,}" if high is not None else " or more"
    return f"{kind}, {low:,}{bound}"


TABLE = {row.name.lower(): row for kind in KINDS for row in rows(kind)}
_OF_A_TYPE = re.compile(r"valid (integer|number|boolean)|(greater|less) than")


def override_rows() -> Iterator[tuple[str, str]]:
    """The fields that only OVERRIDES may hold: what each takes, its value in every recipe, its meaning."""
    properties = Recipe.model_json_schema()["properties"]
    for name in sorted(properties.keys() - {"name", *Parameters.model_fields}):
        values = {recipe: json.dumps(getattr(fields, name)).strip('"') for recipe, fields in RECIPES.items()}
        own = " ".join(f"{recipe} {value}" for recipe, value in values.items())
        default = own if len(set(values.values())) > 1 else f"default {values['finetune']}"
        meaning = Recipe.model_fields[name].description
        yield name, f"{_takes(properties[name])}; {default}" + (f": {meaning}" if meaning else "")


def read_words(words: Sequence[str], door: Door) -> dict[str, str]:
    """Values by name (small) of `NAME=value` words, whose names may be in any case of letters.

    Raises UserError naming the first bad one: no such form, no such parameter, not one of this door, given twice.
    """
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"'{word}' is not of the form NAME=value.")
        name = name.lower()
        if name not in TABLE:
            names = [row.name.lower() for row in TABLE.values() if door in row.doors]
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0].upper()}?" if close else f"there are {', '.join(names).upper()}."
            raise UserError(f"There is no parameter {name.upper()}; {hint}")
        if door not in TABLE[name].doors:
            raise UserError(f"{name.upper()} is for {' and '.join(TABLE[name].doors)}, not for {door}; leave it out.")
        if values.setdefault(name, value) != value:
            raise UserError(f"{name.upper()} is given twice, as {values[name]} and as {value}; give it once.")
    return values


def validated(kind: type[AnyKind], values: dict[str, Any]) -> AnyKind:
    """The parameters of a kind. Raises UserError naming the first value that cannot be."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error)
        value = f"{problem.where.upper()}={problem.value}"
        raise UserError(f"{value} cannot be used: {_in_our_words(problem)}.") from error


def _in_our_words(problem: Problem) -> str:
    """What the value should be; pydantic speaks of parsing, and tells one bound of two."""
    if _OF_A_TYPE.search(problem.message) and problem.where in TABLE:
        takes = TABLE[problem.where].takes
        return f"it should be {'a ' if 'number' in takes else ''}{takes}"
    if "pattern" in problem.message:
        return "it should begin with s3://"
    return "it should not be empty" if "at least 1 character" in problem.message else problem.message


def parse_parameters(words: Sequence[str]) -> Parameters:
    """The parameters of a run on this machine. Raises UserError naming the first bad one and what is allowed."""
    return validated(Parameters, read_words(words, Door.PIPELINE))


def parse_cluster_parameters(words: Sequence[str]) -> dict[str, Any]:
    """The pipeline's parameters that were given for a run on a cluster; the others keep the pipeline's defaults.

    Raises UserError naming the first bad one and what is allowed.
    """
    values = read_words(words, Door.SUBMIT)
    given: dict[str, Any] = {}
    for kind in (Parameters, ClusterParameters):
        own = {name: value for name, value in values.items() if name in kind.model_fields}
        given |= validated(kind, own).model_dump(include=set(own))
    return given


def _json_object(text: str, example: str) -> str:
    try:
        valid = isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        valid = False
    if not valid:
        raise ValueError(f"it should be a JSON object such as {example}")
    return text
