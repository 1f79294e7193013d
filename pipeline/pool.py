"""The GPU pool of a run as words of a command line: what each of its parameters takes."""

import json
import re
from typing import Any

from components.core.errors import UserError

CPU = r"\d+(\.\d+)?|\d+m"
TOLERATION_FIELDS = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})
MEMORY = r"\d+(Ki|Mi|Gi|Ti|k|M|G|T)?"


def parse_node_selector(text: str) -> dict[str, str]:
    """Labels and their values from a JSON object of strings. Raises UserError for anything else."""
    value = read_json("GPU_NODE_SELECTOR", text, '{"cloud.google.com/gke-accelerator": "nvidia-l4"}')
    if not isinstance(value, dict) or not all(isinstance(word, str) for word in value.values()):
        raise UserError(f"GPU_NODE_SELECTOR={text} cannot be used: it should be a JSON object of labels and strings.")
    return value


def parse_tolerations(text: str) -> list[dict[str, Any]]:
    """Tolerations from a JSON list of objects in Kubernetes' own form. Raises UserError for anything else."""
    value = read_json("GPU_TOLERATIONS", text, '[{"key": "nvidia.com/gpu", "operator": "Exists"}]')
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UserError(f"GPU_TOLERATIONS={text} cannot be used: it should be a JSON list of objects.")
    for item in value:
        if strange := sorted(set(item) - TOLERATION_FIELDS):
            raise UserError(
                f"GPU_TOLERATIONS={text} cannot be used: a toleration has no field {strange[0]}; "
                f"there are {', '.join(sorted(TOLERATION_FIELDS))}."
            )
        if item.get("operator", "Equal") not in ("Equal", "Exists"):
            raise UserError(f"GPU_TOLERATIONS={text} cannot be used: the operator should be Equal or Exists.")
    return value


def read_json(name: str, text: str, example: str) -> Any:
    """The value of a parameter that is JSON. Raises UserError for anything else."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name}={text} is not JSON ({error.msg} at column {error.colno}); write it like {example}."
        ) from error


def accelerator_count(text: str) -> str:
    """A number of GPUs, which KFP's driver reads as a string. Raises UserError for anything else."""
    if not re.fullmatch(r"\d{1,2}", text):
        raise UserError(f"ACCELERATOR_COUNT={text} cannot be used; give a number of GPUs from 0 to 99.")
    return text


def accelerator_type(text: str) -> str:
    """The name of a resource. Raises UserError for anything else."""
    if not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", text):
        raise UserError(f"ACCELERATOR_TYPE={text} cannot be used; give a resource name such as nvidia.com/gpu.")
    return text


def cpu(text: str) -> str:
    """A quantity of CPUs. Raises UserError for anything else."""
    if not re.fullmatch(CPU, text):
        raise UserError(f"TRAIN_CPU={text} cannot be used; give a Kubernetes quantity such as 4 or 500m.")
    return text


def memory(text: str) -> str:
    """A quantity of memory. Raises UserError for anything else."""
    if not re.fullmatch(MEMORY, text):
        raise UserError(f"TRAIN_MEMORY={text} cannot be used; give a Kubernetes quantity such as 16Gi.")
    return text
