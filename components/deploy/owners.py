"""Who keeps a version in an InferenceService, told by the field managers of server-side apply."""

from typing import Any

from components.core.cluster import Object

MODEL_FIELD = ("f:spec", "f:predictor", "f:model", "f:storageUri")


def owners(service: Object, ours: str) -> list[str]:
    """The managers other than `ours` that set the model of an InferenceService, each with how it writes."""
    entries = service.get("metadata", {}).get("managedFields") or []
    return [
        f"'{entry['manager']}' ({'server-side apply' if entry.get('operation') == 'Apply' else 'update'})"
        for entry in entries
        if entry.get("manager") != ours and _has(entry.get("fieldsV1") or {}, MODEL_FIELD)
    ]


def _has(fields: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if name not in fields:
            return False
        fields = fields[name]
    return True
