"""The InferenceService as we apply it: only the fields that say which version runs; the rest is whoever's it is.

Scaling and resources are not ours: they come from the ServingRuntime, or from whoever else manages the object.
"""

from dataclasses import dataclass

from components.core.cluster import Object
from components.core.layout import MODEL_NAME, version_prefix
from components.core.location import Location
from components.deploy.options import KServeOptions

GROUP = "serving.kserve.io"
API_VERSION = "v1beta1"
KIND = "InferenceService"
PLURAL = "inferenceservices"
FIELD_MANAGER = "bin-counter-deploy"
VERSION_LABEL = "bin-counter/version"
CANARY_NAME = "canary"


@dataclass(frozen=True)
class Served:
    """A version as a cluster sees it: its name, and where KServe fetches it from."""

    version: str
    storage_uri: str


def served(version: str, models: Location) -> Served:
    """The version as it lies in the models bucket."""
    root = str(models)
    return Served(version, f"{root}/{version_prefix(version).rstrip('/')}")


def inference_service(options: KServeOptions, model: Served, name: str | None = None) -> Object:
    """The InferenceService that serves `model` and nothing else."""
    return _object(options, name or options.name, {"predictor": _predictor(options, model)})


def shadow_service(options: KServeOptions, model: Served) -> Object:
    """A second InferenceService beside the first: no route from outside leads to it."""
    shadow = inference_service(options, model, shadow_name(options))
    shadow["metadata"]["labels"]["networking.kserve.io/visibility"] = "cluster-local"
    shadow["spec"]["predictor"] |= {"minReplicas": 1, "maxReplicas": 1}
    return shadow


def canary_service(options: KServeOptions, stable: Served, canary: Served, replicas: int = 1) -> Object:
    """The InferenceService that serves `stable`, and `canary` to `canary_percent` of the requests.

    `replicas` is how many pods the stable version has. In Standard mode KServe takes the canary's pod from them, so at
    least two are asked for while there is a canary: the stable version must never be left without one.
    """
    if options.mode == "Knative":  # there the newest revision takes the share, and the one before keeps the rest
        predictor = _predictor(options, canary) | {"canaryTrafficPercent": options.canary_percent}
        return _object(options, options.name, {"predictor": predictor})
    beside = _predictor(options, canary) | {"name": CANARY_NAME, "minReplicas": 1}
    beside["model"]["name"] = CANARY_NAME
    share = {"trafficPercent": options.canary_percent, "predictor": beside}
    predictor = _predictor(options, stable) | {"minReplicas": max(2, replicas)}
    return _object(options, options.name, {"predictor": predictor, "canary": [share]})


def shadow_name(options: KServeOptions) -> str:
    """Name of the second InferenceService."""
    return f"{options.name}-candidate"


def without_model(options: KServeOptions) -> Object:
    """What to apply to take our fields out of an InferenceService that others had made before us."""
    return {"apiVersion": f"{GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": options.name}}


def served_by(service: Object) -> Served | None:
    """What an InferenceService in a cluster is to serve (its stable predictor), None when it is not a model of ours."""
    predictor = service.get("spec", {}).get("predictor", {})
    uri = predictor.get("model", {}).get("storageUri", "")
    version = predictor.get("labels", {}).get(VERSION_LABEL, "")
    return Served(version, uri) if uri else None


def _object(options: KServeOptions, name: str, spec: Object) -> Object:
    return {
        "apiVersion": f"{GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": options.namespace,
            "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
            # Explicit, because clusters default to Knative.
            "annotations": {"serving.kserve.io/deploymentMode": options.mode},
        },
        "spec": spec,
    }


def _predictor(options: KServeOptions, model: Served) -> Object:
    return {
        # KServe hands predictor labels on to the pods: they say which version a pod runs.
        "labels": {VERSION_LABEL: model.version} if model.version else {},
        "serviceAccountName": options.service_account,
        "model": {"modelFormat": {"name": MODEL_NAME}, "runtime": options.runtime, "storageUri": model.storage_uri},
    }
