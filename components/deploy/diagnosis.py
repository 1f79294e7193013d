"""Whether a version is up in the cluster, and if not, why: conditions, pods, events and log lines in a sentence."""

import time
from dataclasses import dataclass

from components.core.cluster import Cluster, Object, dead_webhook
from components.core.inference_service import API_VERSION, GROUP, PLURAL, Served
from components.core.pods import (
    CANNOT_START,
    FIRST_FAILED_PULL,
    condition,
    container_states,
    unschedulable,
    waiting_for,
)
from components.deploy.options import KServeOptions

LOG_LINES = 5
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
# Failures that KServe reports before there is any pod; right after a change they may still be about the spec before.
LOOKS_UNTIL_CURRENT = 5
INVALID = ("NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled", "InvalidPredictorSpec")
# Kinds whose warnings tell why no pod comes up. The autoscaler, named like the Deployment, warns until it has metrics.
TELLING_KINDS = ("Pod", "ReplicaSet", "Deployment", "InferenceService")
# KServe says these on every cluster: without Istio, and when its controller and another write to one object.
NOISE = ("VirtualServiceCRDNotFound", "the object has been modified")

# Conditions that are false for no reason of their own: a sum of the others, and one that is false when all is well.
NOT_CAUSES = ("Ready", "Stopped")


@dataclass(frozen=True)
class State:
    """How far a version is: ready, or not yet and why; `failed` says that waiting is of no use."""

    ready: bool
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Workload:
    """What to look at: the InferenceService, its Deployment, and what is to run in it."""

    service: str
    deployment: str
    model: Served


class Observer:
    """Looks at a version from the moment it was applied; what its pods went through before does not count."""

    def __init__(self, cluster: Cluster, options: KServeOptions, workload: Workload) -> None:
        self.cluster = cluster
        self.options = options
        self.workload = workload
        self.since = time.monotonic()
        self._pods_path = f"/api/v1/namespaces/{options.namespace}/pods"
        self._restarts = dict(self._restart_counts())

    def look(self) -> State:
        """The state of the version now."""
        service = self.cluster.get(service_path(self.options, self.workload.service))
        if service is None:
            return State(False, f"the InferenceService {self.workload.service} is gone", failed=True)
        # Its observedGeneration is of no use: KServe copies it from the Deployment. Labels of the pods tell what runs.
        up = self._revision_up(service) if self.options.mode == "Knative" else self._rolled_out()
        if up and condition(service, "Ready").get("status") == "True":
            return State(True)
        last = service.get("status", {}).get("modelStatus", {}).get("lastFailureInfo", {})
        if last.get("reason") in INVALID and self._waited() > LOOKS_UNTIL_CURRENT * self.options.poll_seconds:
            return State(False, f"{last['reason']}: {last.get('message', '')}", failed=True)
        return self._pods_state() or self._replica_failure() or State(False, _conditions(service))

    def warnings(self) -> str:
        """The newest warnings about the version's pods and its InferenceService."""
        names = {self.workload.service, self.workload.deployment} | {pod["metadata"]["name"] for pod in self._pods()}
        found = self.cluster.list(f"/api/v1/namespaces/{self.options.namespace}/events", field_selector="type=Warning")
        about = [one for one in found if _tells(one, names)]
        about.sort(key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")
        return " / ".join(dict.fromkeys(f"{one.get('reason')}: {one.get('message')}" for one in about[-3:]))

    def _waited(self) -> float:
        return time.monotonic() - self.since

    def _revision_up(self, service: Object) -> bool:
        """Whether the newest Knative revision is ready, and a pod of the version, so that it is the one we mean."""
        predictor = service.get("status", {}).get("components", {}).get("predictor", {})
        created = predictor.get("latestCreatedRevision")
        if not created or created != predictor.get("latestReadyRevision"):
            return False
        return any(condition(pod, "Ready").get("status") == "True" for pod in self._pods())

    def _rolled_out(self) -> bool:
        """Whether every replica runs the version; that the service is Ready says nothing during a rolling update."""
        deployment = self._deployment()
        if deployment is None:
            return False
        labels = deployment["spec"]["template"]["metadata"].get("labels", {})
        status = deployment.get("status", {})
        wanted = deployment["spec"].get("replicas", 1)
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return (
            self.workload.model.labels.items() <= labels.items()
            and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
            and counts == [wanted] * 3
        )

    def _deployment(self) -> Object | None:
        path = f"/apis/apps/v1/namespaces/{self.options.namespace}/deployments/{self.workload.deployment}"
        return self.cluster.get(path)

    def _pods(self) -> list[Object]:
        """The version's pods but for those that were told to stop, whatever they end with."""
        labels = {SERVICE_LABEL: self.workload.service} | self.workload.model.labels
        selector = ",".join(f"{label}={value}" for label, value in labels.items())
        found = self.cluster.list(self._pods_path, label_selector=selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def _restart_counts(self) -> list[tuple[tuple[str, str], int]]:
        return [
            ((pod["metadata"]["uid"], container["name"]), container.get("restartCount", 0))
            for pod in self._pods()
            for container in container_states(pod)
        ]

    def _pods_state(self) -> State | None:
        """The first pod of the version that has trouble, None when none has."""
        for pod in self._pods():
            if (message := unschedulable(pod)) is not None:
                why = f"no node fits pod {pod['metadata']['name']} ({message})"
                return State(False, why, failed=self._waited() > self.options.schedule_seconds)
            for container in container_states(pod):
                state = self._container_state(pod["metadata"], container)
                if state:
                    return state
        return None

    def _container_state(self, pod: Object, container: Object) -> State | None:
        if container.get("ready"):
            return None
        reason, message = waiting_for(container)
        where = f"container {container['name']} of pod {pod['name']}"
        if reason in CANNOT_START and reason != FIRST_FAILED_PULL:
            return State(False, f"{where}: {reason} ({message})", failed=True)
        restarts = container.get("restartCount", 0) - self._restarts.get((pod["uid"], container["name"]), 0)
        crashes = reason == "CrashLoopBackOff" or restarts > 1
        before = container.get("lastState", {}).get("terminated") if crashes or restarts else None
        ended = container.get("state", {}).get("terminated") or before or {}
        if ended.get("exitCode", 0) == 0 and not crashes:
            return None
        previous = "false" if "terminated" in container.get("state", {}) else "true"
        said = self.cluster.log(
            f"{self._pods_path}/{pod['name']}", container["name"], tailLines=str(LOG_LINES), previous=previous
        )
        log = " / ".join(said.split("\n")).strip(" /")
        why = ended.get("message") or ended.get("reason") or "it ended"
        return State(
            False,
            f"{where} ended with status {ended.get('exitCode', '?')} ({why}); its last lines: {log or 'none'}",
            failed=crashes,
        )

    def _replica_failure(self) -> State | None:
        """Pods that may not even be created: a quota, Pod Security, a webhook that refuses or is away."""
        failure = condition(self._deployment() or {}, "ReplicaFailure")
        if failure.get("status") != "True":
            return None
        message = failure.get("message", "")
        if away := dead_webhook(message):
            waited = self._waited() > self.options.schedule_seconds
            return State(False, f"no pod can be created, because {away} ({message})", failed=waited)
        return State(False, f"no pod can be created ({message})", failed=True)


def service_path(options: KServeOptions, name: str) -> str:
    """API path of an InferenceService."""
    return f"/apis/{GROUP}/{API_VERSION}/namespaces/{options.namespace}/{PLURAL}/{name}"


def _tells(event: Object, names: set[str]) -> bool:
    """Whether an event is about one of these objects and not what is always said."""
    about = event.get("involvedObject", {})
    said = f"{event.get('reason')} {event.get('message')}"
    return (
        about.get("name") in names and about.get("kind") in TELLING_KINDS and not any(noise in said for noise in NOISE)
    )


def _conditions(service: Object) -> str:
    """What the InferenceService itself says is missing."""
    conditions = service.get("status", {}).get("conditions") or []
    if not conditions:
        return "KServe has not said anything about it yet; is its controller running?"
    unmet = [one for one in conditions if one.get("status") != "True" and one["type"] not in NOT_CAUSES]
    said = [f"{one['type']}: {one.get('message') or one.get('reason') or 'unknown'}" for one in unmet]
    return ", ".join(said) or "not all pods run the new version yet"
