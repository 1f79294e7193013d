"""The InferenceService that serves a version, and the copy of a ServingRuntime that it names.

Both are made by the deploy step on a cluster, and by `make manifests VERSION=…` for a repository.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from components.core.layout import MODEL_NAME, MODELS_BUCKET, version_prefix

Object = dict[str, Any]

GROUP = "serving.kserve.io"
API_VERSION = "v1beta1"
KIND = "InferenceService"
PLURAL = "inferenceservices"
RUNTIME_VERSION = "v1alpha1"
RUNTIME_KIND = "ServingRuntime"
RUNTIME_PLURAL = "servingruntimes"
VERSION_LABEL = "bin-counter/version"
RUNTIME_LABEL = "bin-counter/runtime"
COPY_OF = "bin-counter/copy-of"
SERVICE_ACCOUNT = f"{MODEL_NAME}-serve"
# The name that KServe's pod webhook looks for, whatever else runs in the pod.
CONTAINER = "kserve-container"
S3_SCHEME = "s3://"
DIGEST_LENGTH = 10


@dataclass(frozen=True)
class Served:
    """A version as a cluster sees it: its name, where KServe fetches it from, and the ServingRuntime that runs it."""

    version: str
    storage_uri: str
    runtime: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What KServe hands on to the pods, so that they say which version they run, and on which code."""
        named = {VERSION_LABEL: self.version, RUNTIME_LABEL: self.runtime}
        return {label: value for label, value in named.items() if value}

    def on(self, runtime: str) -> "Served":
        """The same version on another ServingRuntime."""
        return replace(self, runtime=runtime)


def served(version: str, models_uri: str = f"{S3_SCHEME}{MODELS_BUCKET}", storage_uri: str = "") -> Served:
    """The version as it lies in the models bucket, or where `storage_uri` says, which has {version} in it."""
    lies = f"{models_uri.rstrip('/')}/{version_prefix(version).rstrip('/')}"
    return Served(version, storage_uri.replace("{version}", version) if storage_uri else lies)


def predictor(model: Served, service_account: str = SERVICE_ACCOUNT, storage_container: str = MODEL_NAME) -> Object:
    """The predictor of an InferenceService: the fields that say which version runs, and no others."""
    runtime = {"runtime": model.runtime} if model.runtime else {}
    # KServe refuses a storage container that does not fetch the scheme, and an image volume is not fetched at all.
    fetched = storage_container and model.storage_uri.startswith(S3_SCHEME)
    return {
        "labels": model.labels,
        "serviceAccountName": service_account,
        **({"storageContainerName": storage_container} if fetched else {}),
        "model": {"modelFormat": {"name": MODEL_NAME}, **runtime, "storageUri": model.storage_uri},
    }


def runtime_copy(runtime: Object, service: str) -> Object:
    """A ServingRuntime that never changes, named after the InferenceService and its own content.

    KServe rolls the pods of an InferenceService whenever its ServingRuntime changes, so a model serves from a copy,
    and changes to what manifests/ holds reach it only with the next copy.
    """
    formats = [
        {key: value for key, value in one.items() if key != "autoSelect"}
        for one in runtime["spec"]["supportedModelFormats"]
    ]
    spec = runtime["spec"] | {"supportedModelFormats": formats}
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    return {
        "apiVersion": f"{GROUP}/{RUNTIME_VERSION}",
        "kind": RUNTIME_KIND,
        "metadata": {
            "name": f"{service}-{digest[:DIGEST_LENGTH]}",
            "namespace": runtime["metadata"]["namespace"],
            "annotations": {COPY_OF: runtime["metadata"]["name"]},
        },
        "spec": spec,
    }
