import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
OVERLAYS = ("local", "gke", "eks", "aks", "onprem-gpu", "airgapped")
TRAIN_JOBS = tuple(f"train-jobs/{overlay}" for overlay in OVERLAYS)
OPTIONS = ("inference-service", "inference-service-local", "monitoring", "store-kfp", "store-tls")
FOLDERS = (*(f"overlays/{overlay}" for overlay in OVERLAYS), *TRAIN_JOBS, *OPTIONS)

Object = dict[str, Any]


@cache
def built(folder: str) -> tuple[Object, ...]:
    """The objects of a folder of manifests/, as `kubectl kustomize` builds them."""
    kubectl = Path(sys.executable).with_name("kubectl")
    ended = subprocess.run([kubectl, "kustomize", MANIFESTS / folder], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return tuple(yaml.safe_load_all(ended.stdout))


def overlay(name: str) -> tuple[Object, ...]:
    return built(f"overlays/{name}")


def of_kind(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    return {body["metadata"]["name"]: body for body in objects if body["kind"] == kind}


def pod_specs(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Every pod that the objects lead to, by kind and name of the object."""
    found = {}
    for body in objects:
        where = f"{body['kind']}/{body['metadata']['name']}"
        if body["kind"] in ("StatefulSet", "Deployment", "Job"):
            found[where] = body["spec"]["template"]["spec"]
        elif body["kind"] == "ServingRuntime":
            found[where] = body["spec"]
        elif body["kind"] == "ClusterTrainingRuntime":
            for job in body["spec"]["template"]["spec"]["replicatedJobs"]:
                found[f"{where}/{job['name']}"] = job["template"]["spec"]["template"]["spec"]
    return found
