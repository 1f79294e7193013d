"""Validation of Kubernetes objects: against Kubernetes' own schemas, and against CRDs with unknown fields refused."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils as kubernetes_validate
import pytest
import yaml

CRDS = Path(__file__).parent.parent.parent / "shared" / "crds"
NEWEST_MINORS = tuple(kubernetes_validate.all_versions()[-3:])

# The library reads the same megabytes of schemas anew for every object.
kubernetes_validate.schema_contents = cache(kubernetes_validate.schema_contents)


def builtin_problem(body: dict[str, Any], version: str) -> str | None:
    """What is wrong with an object of Kubernetes' own, unknown fields included; None when nothing is."""
    try:
        kubernetes_validate.validate(body, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return None


def custom_problem(body: dict[str, Any]) -> str | None:
    """What is wrong with an object of a CRD, None when nothing is; skips the test where the CRDs are not at hand."""
    if not CRDS.is_dir():
        pytest.skip("the CRD schemas are not beside this checkout")
    validator = _validators().get((body["apiVersion"], body["kind"]))
    if validator is None:
        return f"there is no schema of {body['apiVersion']} {body['kind']}"
    problems = sorted(validator.iter_errors(body), key=lambda error: list(map(str, error.path)))
    return f"{'.'.join(map(str, problems[0].path))}: {problems[0].message}" if problems else None


def is_builtin(body: dict[str, Any]) -> bool:
    """Whether Kubernetes itself knows the kind."""
    group = body["apiVersion"].partition("/")[0] if "/" in body["apiVersion"] else ""
    return "." not in group or group.endswith(".k8s.io")


def storage_container_problem(body: dict[str, Any]) -> str | None:
    """What is wrong with a ClusterStorageContainer, whose CRD is not among those at hand, as KServe's source has it."""
    spec, container = body["spec"], body["spec"]["container"]
    known = {"container", "supportedUriFormats", "workloadType", "supportsMultiModelDownload"}
    if strange := sorted(set(spec) - known):
        return f"spec: there is no field {strange[0]}"
    if not all(set(one) in ({"prefix"}, {"regex"}) for one in spec["supportedUriFormats"]):
        return "spec.supportedUriFormats: each has a prefix or a regex"
    # KServe's own container brings the image; a pod's schema has to have one.
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test"}}
    return builtin_problem(pod | {"spec": {"containers": [container | {"image": "example/one:1"}]}}, NEWEST_MINORS[-1])


@cache
def _validators() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        crd = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]  # ten times as fast as safe_load
        for version in crd["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"], root=True)
            validator = jsonschema.Draft202012Validator(schema)
            found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = validator
    return found


def _closed(schema: Any, root: bool = False) -> Any:
    """An OpenAPI schema as JSON Schema in which a field that is not described is an error."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            result[key] = {name: _closed(inner) for name, inner in value.items()}
        elif key not in ("description", "default", "format", "example"):
            result[key] = _closed(value)
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in result:
        result["type"] = [result["type"], "null"]
    if "properties" in result and "additionalProperties" not in result:
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
        if schema.get("x-kubernetes-embedded-resource") or root:
            result["properties"] = {"apiVersion": {}, "kind": {}, "metadata": {}} | result["properties"]
    return result
