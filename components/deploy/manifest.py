"""The InferenceService as we apply it: only the fields that say which version runs; the rest is whoever's it is.

Scaling and resources are not ours: they come from the ServingRuntime, or from whoever else manages the object.
"""

from components.core.cluster import Object
from components.core.inference_service import API_VERSION, CONTAINER, GROUP, KIND, VERSION_LABEL, Served, predictor
from components.deploy.options import KServeOptions

FIELD_MANAGER = "bin-counter-deploy"
MANAGED_BY = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
CANARY_NAME = "canary"


def inference_service(options: KServeOptions, model: Served, name: str | None = None) -> Object:
    """The InferenceService that serves `model` and nothing else."""
    return _object(options, name or options.name, {"predictor": _predictor(options, model)})


def shadow_service(options: KServeOptions, model: Served) -> Object:
    """A second InferenceService beside the first: no route from outside leads to it."""
    shadow = inference_service(options, model, shadow_name(options))
    shadow["metadata"]["labels"]["networking.kserve.io/visibility"] = "cluster-local"
    shadow["spec"]["predictor"] |= {"minReplicas": 1, "maxReplicas": 1}
    return shadow


def canary_service(options: KServeOptions, stable: Served, canary: Served, percent: int, replicas: int = 1) -> Object:
    """The InferenceService that serves `stable`, and `canary` to `percent` of the requests.

    `replicas` is how many pods the stable version has. In Standard mode KServe takes the canary's pod from them, so at
    least two are asked for while there is a canary: the stable version must never be left without one.
    """
    if options.mode == "Knative":  # there the newest revision takes the share, and the one before keeps the rest
        shared = _predictor(options, canary) | {"canaryTrafficPercent": percent}
        return _object(options, options.name, {"predictor": shared})
    beside = _predictor(options, canary) | {"name": CANARY_NAME, "minReplicas": 1}
    beside["model"]["name"] = CONTAINER
    share = {"trafficPercent": percent, "predictor": beside}
    stays = _predictor(options, stable) | {"minReplicas": max(2, replicas)}
    return _object(options, options.name, {"predictor": stays, "canary": [share]})


def shadow_name(options: KServeOptions) -> str:
    """Name of the second InferenceService."""
    return f"{options.name}-candidate"


def predictor_name(name: str) -> str:
    """Name of the Deployment and the Service that KServe makes for an InferenceService."""
    return f"{name}-predictor"


def canary_predictor_name(options: KServeOptions) -> str:
    """Name of the same for its canary in Standard mode."""
    return predictor_name(f"{options.name}-{CANARY_NAME}")


def without_model(options: KServeOptions) -> Object:
    """What to apply to take our fields out of an InferenceService that others had made before us."""
    return {"apiVersion": f"{GROUP}/{API_VERSION}", "kind": KIND, "metadata": {"name": options.name}}


def served_by(service: Object) -> Served | None:
    """What an InferenceService in a cluster is to serve (its stable predictor), None when it is not a model of ours."""
    return _served(service.get("spec", {}).get("predictor", {}))


def canary_of(service: Object) -> Served | None:
    """What the canary of an InferenceService in Standard mode is to serve, None when there is none."""
    shares = service.get("spec", {}).get("canary") or []
    return _served(shares[0]["predictor"]) if shares else None


def _served(predictor: Object) -> Served | None:
    model = predictor.get("model", {})
    uri, version = model.get("storageUri", ""), predictor.get("labels", {}).get(VERSION_LABEL, "")
    return Served(version, uri, model.get("runtime", "")) if uri else None


def _object(options: KServeOptions, name: str, spec: Object) -> Object:
    return {
        "apiVersion": f"{GROUP}/{API_VERSION}",
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": options.namespace,
            "labels": dict(MANAGED_BY),
            # Explicit, because clusters default to Knative.
            "annotations": {"serving.kserve.io/deploymentMode": options.mode},
        },
        "spec": spec,
    }


def _predictor(options: KServeOptions, model: Served) -> Object:
    return predictor(model, options.service_account, options.storage_container)
