"""Whether a version is up in the cluster, and if not, why: conditions, pods, events and log lines in a sentence."""

import time
from dataclasses import dataclass

from components.core.cluster import Cluster, Object
from components.deploy.manifest import API_VERSION, GROUP, PLURAL, VERSION_LABEL
from components.deploy.options import KServeOptions

LOG_LINES = 5
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
# States of a container that do not mend themselves.
HOPELESS = (
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "RunContainerError",
)
# Failures that KServe reports before there is any pod; right after a change they may still be about the spec before.
LOOKS_UNTIL_CURRENT = 5
INVALID = ("NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled", "InvalidPredictorSpec")


@dataclass(frozen=True)
class State:
    """How far a version is: ready, or not yet and why; `failed` says that waiting is of no use."""

    ready: bool
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Workload:
    """What to look at: the InferenceService, its Deployment, and the version that is to run in it."""

    service: str
    deployment: str
    version: str


def look(cluster: Cluster, options: KServeOptions, workload: Workload, since: float) -> State:
    """The state of a version that was applied at `since` (time.monotonic)."""
    service = cluster.get(service_path(options, workload.service))
    if service is None:
        return State(False, f"the InferenceService {workload.service} is gone", failed=True)
    # Its observedGeneration is of no use: KServe copies it from the Deployment. What runs is read off the pods' label.
    if options.mode == "Knative":
        up = _revision_up(cluster, options, workload, service)
    else:
        up = _rolled_out(cluster, options, workload)
    if up and condition(service, "Ready").get("status") == "True":
        return State(True)
    last = service.get("status", {}).get("modelStatus", {}).get("lastFailureInfo", {})
    if last.get("reason") in INVALID and time.monotonic() - since > LOOKS_UNTIL_CURRENT * options.poll_seconds:
        return State(False, f"{last['reason']}: {last.get('message', '')}", failed=True)
    return _pods_state(cluster, options, workload, since) or State(False, _conditions(service))


def service_path(options: KServeOptions, name: str) -> str:
    """API path of an InferenceService."""
    return f"/apis/{GROUP}/{API_VERSION}/namespaces/{options.namespace}/{PLURAL}/{name}"


def condition(thing: Object, kind: str) -> Object:
    """One of the status conditions of an object, empty when it is not there."""
    found = [one for one in thing.get("status", {}).get("conditions") or [] if one.get("type") == kind]
    return found[0] if found else {}


def events(cluster: Cluster, options: KServeOptions, workload: Workload) -> str:
    """The newest warnings about the version's pods and its InferenceService."""
    names = {workload.service, workload.deployment} | {
        pod["metadata"]["name"] for pod in _pods(cluster, options, workload)
    }
    found = cluster.list(f"/api/v1/namespaces/{options.namespace}/events", field_selector="type=Warning")
    about = [one for one in found if one.get("involvedObject", {}).get("name") in names]
    about.sort(key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")
    return " / ".join(dict.fromkeys(f"{one.get('reason')}: {one.get('message')}" for one in about[-3:]))


def _revision_up(cluster: Cluster, options: KServeOptions, workload: Workload, service: Object) -> bool:
    """Whether the newest Knative revision is ready, and a pod of the version, which says that it is the one we mean."""
    predictor = service.get("status", {}).get("components", {}).get("predictor", {})
    created = predictor.get("latestCreatedRevision")
    if not created or created != predictor.get("latestReadyRevision"):
        return False
    return any(condition(pod, "Ready").get("status") == "True" for pod in _pods(cluster, options, workload))


def _rolled_out(cluster: Cluster, options: KServeOptions, workload: Workload) -> bool:
    """Whether every replica runs the version; that the service is Ready says nothing during a rolling update."""
    deployment = cluster.get(f"/apis/apps/v1/namespaces/{options.namespace}/deployments/{workload.deployment}")
    if deployment is None:
        return False
    labels = deployment["spec"]["template"]["metadata"].get("labels", {})
    status = deployment.get("status", {})
    wanted = deployment["spec"].get("replicas", 1)
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
    return (
        labels.get(VERSION_LABEL, "") == workload.version
        and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and counts == [wanted] * 3
    )


def _pods(cluster: Cluster, options: KServeOptions, workload: Workload) -> list[Object]:
    selector = f"{SERVICE_LABEL}={workload.service},{VERSION_LABEL}={workload.version}"
    return cluster.list(f"/api/v1/namespaces/{options.namespace}/pods", label_selector=selector)


def _pods_state(cluster: Cluster, options: KServeOptions, workload: Workload, since: float) -> State | None:
    """The first pod of the version that has trouble, None when none has."""
    for pod in _pods(cluster, options, workload):
        name = pod["metadata"]["name"]
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("reason") == "Unschedulable":
            waited = time.monotonic() - since
            return State(
                False,
                f"no node fits pod {name} ({scheduled.get('message', '')})",
                failed=waited > options.schedule_seconds,
            )
        status = pod.get("status", {})
        for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
            state = _container_state(cluster, options, name, container)
            if state:
                return state
    return _replica_failure(cluster, options, workload)


def _container_state(cluster: Cluster, options: KServeOptions, pod: str, container: Object) -> State | None:
    waiting = container.get("state", {}).get("waiting") or {}
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    where = f"container {container['name']} of pod {pod}"
    if waiting.get("reason") in HOPELESS:
        return State(False, f"{where}: {waiting['reason']} ({waiting.get('message', '')})", failed=True)
    crashes = waiting.get("reason") == "CrashLoopBackOff" or container.get("restartCount", 0) > 1
    if ended.get("exitCode", 0) == 0 and not crashes:
        return None
    path = f"/api/v1/namespaces/{options.namespace}/pods/{pod}"
    previous = "false" if "terminated" in container.get("state", {}) else "true"
    said = cluster.log(path, container["name"], tailLines=str(LOG_LINES), previous=previous)
    log = " / ".join(said.split("\n")).strip(" /")
    why = ended.get("message") or ended.get("reason") or "it ended"
    return State(
        False,
        f"{where} ended with status {ended.get('exitCode', '?')} ({why}); its last lines: {log or 'none'}",
        failed=crashes,
    )


def _replica_failure(cluster: Cluster, options: KServeOptions, workload: Workload) -> State | None:
    """Pods that may not even be created: a quota, or Pod Security."""
    deployment = cluster.get(f"/apis/apps/v1/namespaces/{options.namespace}/deployments/{workload.deployment}")
    failure = condition(deployment or {}, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    return State(False, f"no pod can be created ({failure.get('message', '')})", failed=True)


def _conditions(service: Object) -> str:
    """What the InferenceService itself says is missing."""
    conditions = service.get("status", {}).get("conditions") or []
    if not conditions:
        return "KServe has not said anything about it yet; is its controller running?"
    unmet = [one for one in conditions if one.get("status") != "True"]
    said = [f"{one['type']}: {one.get('message') or one.get('reason') or 'unknown'}" for one in unmet]
    return ", ".join(said) or "not all pods run the new version yet"
