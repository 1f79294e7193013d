"""KServe's controller and webhooks, a scheduler, a kubelet and a gateway for tests, on the small API server.

Each InferenceService gets a Deployment, pods by a rolling update, a Service, an HTTPRoute, and a status as KServe 0.21
writes it. A pod that runs answers through the real model server on the version that its storageUri names. How pods of a
version fare is up to the test. What was seen of KServe on a real cluster (Kubernetes 1.36, KServe of August 2026 in
Standard mode, Traefik) and holds here as well:

- its init container has no security context but what a ClusterStorageContainer gives it, and Pod Security refuses it;
- its pod webhook wants a container `kserve-container`, also in a canary;
- a change of a ServingRuntime rolls the pods of every InferenceService that names it;
- without its option enableGatewayApi there is no HTTPRoute, whether the Gateway API is installed or not;
- a canary that left the spec loses its Service before it leaves the HTTPRoute;
- a pod that is told to stop listens on for as long as its preStop hook lasts, and gateways hear of it late;
- it warns of an Istio that nobody asked for, and the autoscaler warns until there are metrics.
"""

import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from tests.fakes.kubernetes_api import ApiServer

Object = dict[str, Any]
VERSION_LABEL = "bin-counter/version"
NAMESPACE = "bin-counter"
WEBHOOK = 'admission webhook "inferenceservice.kserve-webhook-server.pod-mutator" denied the request: '
VISIBILITY = "networking.kserve.io/visibility"
GATEWAY_LAG = 0.3  # seconds until a gateway uses what changed
SECOND = 0.05  # how long a second of a preStop hook lasts


@dataclass
class Fate:
    """How the pods of a version fare; the default is well."""

    waiting: tuple[str, str] | None = None  # reason and message of a container that does not start
    crashes: bool = False
    fetching: str = ""  # why the init container cannot fetch the model
    unschedulable: bool = False
    never_ready: bool = False
    quota: str = ""  # why no pod may be created
    invalid: str = ""  # what KServe says of the spec
    restarts: int = 0  # how often a container that is well now has crashed before
    spares: set[str] = field(default_factory=set)  # InferenceServices in which the pods fare well all the same


class KServeCluster:
    """The controllers, working in a thread until `stop`."""

    def __init__(
        self, api: ApiServer, server_of: Callable[[str], str], knative: bool = False, gateway_api: bool = True
    ) -> None:
        self.api, self.server_of, self.knative, self.gateway_api = api, server_of, knative, gateway_api
        self.fates: dict[str, Fate] = {}
        self.services: dict[str, Service] = {}
        self.routes: dict[str, list[tuple[float, list[tuple[int, str]]]]] = defaultdict(list)  # with when they changed
        self.running: dict[str, str] = {}  # address of every pod that answers, those that are ending too
        self.ending: dict[str, float] = {}  # pods that were told to stop, with when they do
        self.warned: set[str] = set()
        self.history: list[tuple[str, str]] = []  # InferenceService and version, as pods were made
        self.failure: Exception | None = None
        self.pods = itertools.count()
        self.door = listen(self._by_name)
        # For the deploy option `address`: Services that KServe tells no address of, by the name they have in a cluster.
        self.address = f"http://127.0.0.1:{self.door.server_port}/{{service}}"
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def service(self, name: str) -> "Service":
        """The Service of a Deployment, made when first asked for."""
        if name not in self.services:
            self.services[name] = Service()
        return self.services[name]

    def through_the_gateway(self, name: str) -> str | int:
        """The address of the pod that a gateway sends a request to, which was made for an InferenceService; or the
        status that it answers itself. It uses the HTTPRoute and the endpoints as they were a moment ago."""
        before = time.monotonic() - GATEWAY_LAG
        with self.api.lock:
            known = [shares for since, shares in self.routes[name] if since <= before]
            choices = [(weight, service) for weight, service in (known[-1] if known else []) if weight]
            if not choices:
                return 404
            [service] = random.choices([service for _, service in choices], [weight for weight, _ in choices])
            if not self.service(service).exists:
                return 500
            pods = self.service(service).pods_at(before)
            pod = random.choice(sorted(pods)) if pods else ""
            return self.running.get(pod, 502) if pod else 503

    def _by_name(self, path: str) -> tuple[str | int, str]:
        _, name, rest = path.split("/", 2)
        return self.service(name).draw(), f"/{rest}"

    def _work(self) -> None:
        while not self.done.is_set():
            try:
                with self.api.lock:
                    self._reconcile()
            except Exception as error:
                self.failure = error
                raise
            time.sleep(0.04)

    def _reconcile(self) -> None:
        self._end_pods()
        wanted: set[str] = set()
        for service in self.api.all("inferenceservices", NAMESPACE):
            name, predictor = service["metadata"]["name"], service["spec"].get("predictor", {})
            if not predictor.get("model", {}).get("storageUri"):
                continue
            parts = {f"{name}-predictor": predictor}
            for one in service["spec"].get("canary", []):
                parts[f"{name}-{one['predictor']['name']}-predictor"] = merged(predictor, one["predictor"])
            wanted |= set(parts)
            ready = {deployment: self._deployment(name, deployment, part) for deployment, part in parts.items()}
            self._remove_deployments({one for one in self._made_for(name) if one not in wanted})
            self._status(service, ready)
            self._route(service)
            self._warn(name)
        made = {deployment["metadata"]["name"] for deployment in self.api.all("deployments", NAMESPACE)}
        self._remove_deployments(made - wanted)

    def _deployment(self, service: str, name: str, predictor: Object) -> bool:
        """Bring a Deployment and its pods one step towards the predictor; whether all its pods are new and ready."""
        runtime = self.api.get("servingruntimes", NAMESPACE, predictor["model"].get("runtime", ""))
        if runtime is None:
            return False
        labels = {"serving.kserve.io/inferenceservice": service, "app": name}
        labels |= runtime["spec"].get("labels", {}) | predictor.get("labels", {})
        spec = {
            "model": predictor["model"],
            "runtime": runtime["spec"],
            "storageContainerName": predictor.get("storageContainerName", ""),
        }
        template = {"metadata": {"labels": labels}, "spec": spec}
        there = self.api.get("deployments", NAMESPACE, name) or {"metadata": {"name": name}}
        self.api.put("deployments", NAMESPACE, there | {"spec": {"replicas": 1, "template": template}})
        self.service(name).exists = True
        version = predictor["model"]["storageUri"].rsplit("/", 1)[1]
        fate = self.fates.get(version, Fate())
        fate = Fate() if service in fate.spares else fate
        refused = fate.quota or self._refusal(spec)
        new = [one for one in self._pods(name) if one["spec"] == spec and one["metadata"]["labels"] == labels]
        if not new and not refused and not fate.invalid:
            self._make_pod(name, labels, spec, fate, service, version)
        up = [one for one in new if one["status"]["phase"] == "Running" and one["status"]["ready"]]
        if up:
            for old in self._pods(name):
                if old["metadata"]["name"] not in {one["metadata"]["name"] for one in new}:
                    self._stop_pod(old)
        failure = [{"type": "ReplicaFailure", "status": "True", "message": refused}] if refused else []
        left = len(self._pods(name))
        ready = len(self._ready(name))
        status = {"replicas": left, "updatedReplicas": len(new), "readyReplicas": ready, "availableReplicas": ready}
        deployment = self.api.get("deployments", NAMESPACE, name)
        assert deployment is not None
        generation = deployment["metadata"]["generation"]
        self.api.set_status(
            "deployments", NAMESPACE, name, status | {"observedGeneration": generation, "conditions": failure}
        )
        self.service(name).point_to({pod["metadata"]["name"]: self._address(pod) for pod in self._ready(name)})
        return bool(up) and left == 1

    def _refusal(self, spec: Object) -> str:
        """What KServe's webhook or Pod Security say of a pod, "" when they let it in."""
        if spec["model"].get("name", "kserve-container") != "kserve-container":
            return f"{WEBHOOK}Invalid configuration: cannot find container"
        if not spec["model"]["storageUri"].startswith("s3://"):
            return ""
        security, name = None, spec["storageContainerName"]
        if name:
            container = self.api.get("clusterstoragecontainers", "", name)
            if container is None:
                return f'{WEBHOOK}ClusterStorageContainer "{name}" not found'
            uri = spec["model"]["storageUri"]
            if not any(uri.startswith(one["prefix"]) for one in container["spec"]["supportedUriFormats"]):
                return f'{WEBHOOK}ClusterStorageContainer "{name}" does not support storageUri "{uri}"'
            security = container["spec"]["container"].get("securityContext")
        wanted = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
        if not wanted.items() <= (security or {}).items():
            return (
                'pods "bin-counter-predictor" is forbidden: violates PodSecurity "restricted:latest": '
                'allowPrivilegeEscalation != false (container "storage-initializer" must set '
                "securityContext.allowPrivilegeEscalation=false)"
            )
        return ""

    def _make_pod(self, deployment: str, labels: Object, spec: Object, fate: Fate, service: str, version: str) -> None:
        name = f"{deployment}-{next(self.pods)}"
        self.history.append((service, version))
        container: Object = {"name": "kserve-container", "restartCount": 0, "ready": True, "state": {"running": {}}}
        scheduled = {"type": "PodScheduled", "status": "True"}
        if fate.restarts:
            container |= {
                "restartCount": fate.restarts,
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        if fate.waiting:
            container |= {"ready": False, "state": {"waiting": {"reason": fate.waiting[0], "message": fate.waiting[1]}}}
        if fate.crashes:
            container |= {"restartCount": 3} | _crash_loop("Error")
            self.api.logs[name] = "loading\nerror: the model is damaged\n"
        if fate.unschedulable:
            message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        fetcher: Object = {
            "name": "storage-initializer",
            "restartCount": 0,
            "ready": True,
            "state": {"terminated": {"exitCode": 0}},
        }
        if fate.fetching:
            fetcher |= {"restartCount": 2} | _crash_loop("Error")
            container |= {"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
            self.api.logs[name] = fate.fetching
        bad = fate.waiting or fate.crashes or fate.unschedulable or fate.fetching
        ready = not bad and not fate.never_ready
        if fate.never_ready:
            container["ready"] = False
            self._event(name, "Pod", "Unhealthy", "Readiness probe failed: 503")
        status = {
            "phase": "Pending" if bad else "Running",
            "ready": ready,
            "conditions": [scheduled, {"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [] if fate.unschedulable else [fetcher],
            "containerStatuses": [] if fate.unschedulable else [container],
        }
        self.api.put("pods", NAMESPACE, {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})
        if ready:
            self.running[name] = self.server_of(version)

    def _stop_pod(self, pod: Object) -> None:
        """Tell a pod to stop: it is no endpoint from now on, and listens as long as its preStop hook lasts."""
        name = pod["metadata"]["name"]
        [container] = pod["spec"]["runtime"]["containers"]
        seconds = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        self.ending[name] = time.monotonic() + seconds * SECOND
        ended = {"ready": False, "state": {"terminated": {"exitCode": 143, "reason": "Error"}}}
        statuses = [one | ended for one in pod["status"]["containerStatuses"]]
        status = pod["status"] | {"ready": False, "containerStatuses": statuses}
        self.api.set_status("pods", NAMESPACE, name, status)
        self.api.terminate("pods", NAMESPACE, name)

    def _end_pods(self) -> None:
        for name in [name for name, end in self.ending.items() if end <= time.monotonic()]:
            del self.ending[name]
            self.running.pop(name, None)
            self.api.remove("pods", NAMESPACE, name)

    def _pods(self, deployment: str) -> list[Object]:
        return [
            one
            for one in self.api.all("pods", NAMESPACE)
            if one["metadata"]["labels"]["app"] == deployment and one["metadata"]["name"] not in self.ending
        ]

    def _ready(self, deployment: str) -> list[Object]:
        return [one for one in self._pods(deployment) if one["status"]["ready"]]

    def _address(self, pod: Object) -> str:
        return self.server_of(pod["spec"]["model"]["storageUri"].rsplit("/", 1)[1])

    def _route(self, service: Object) -> None:
        """Write the HTTPRoute, and keep for the gateway when it changed: canaries that are ready have their share."""
        if not self.gateway_api or self.knative:
            shares = [(100, f"{service['metadata']['name']}-predictor")]
        else:
            shares = self._shares(service)
        name = service["metadata"]["name"]
        if self.gateway_api and service["metadata"].get("labels", {}).get(VISIBILITY) != "cluster-local":
            backends = [{"name": backend, "weight": weight, "port": 80} for weight, backend in shares]
            route = {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": name},
                "spec": {"rules": [{"backendRefs": backends}]},
            }
            if (self.api.get("httproutes", NAMESPACE, name) or {}).get("spec") != route["spec"]:
                self.api.put("httproutes", NAMESPACE, route)
        if not self.routes[name] or self.routes[name][-1][1] != shares:
            self.routes[name].append((time.monotonic(), shares))

    def _shares(self, service: Object) -> list[tuple[int, str]]:
        name = service["metadata"]["name"]
        ready = [
            (one["trafficPercent"], canary)
            for one in service["spec"].get("canary", [])
            if self._ready(canary := f"{name}-{one['predictor']['name']}-predictor")
        ]
        return [(100 - sum(share for share, _ in ready), f"{name}-predictor"), *ready]

    def _status(self, service: Object, ready: dict[str, bool]) -> None:
        name, generation = service["metadata"]["name"], service["metadata"]["generation"]
        predictor, model = f"{name}-predictor", service["spec"]["predictor"]["model"]
        deployment = self.api.get("deployments", NAMESPACE, predictor)
        serves = bool(self._ready(predictor))  # as in KServe: ready all through a rolling update
        conditions = [{"type": "PredictorReady", "status": str(serves)}, {"type": "Ready", "status": str(serves)}]
        if not serves:
            for one in conditions:
                one["message"] = f"Deployment {predictor} has minimum availability: no"
        conditions.append({"type": "Stopped", "status": "False"})  # so says every InferenceService that is not stopped
        revision = f"{predictor}-{generation:05d}"
        revisions = {"latestCreatedRevision": revision} | (
            {"latestReadyRevision": revision} if ready[predictor] else {}
        )
        status: Object = {
            # KServe's own flaw: the counter of the Deployment, not of the InferenceService.
            "observedGeneration": deployment["metadata"]["generation"] if deployment else 0,
            "conditions": conditions,
            "address": {"url": self.service(predictor).url},
            "components": {"predictor": revisions if self.knative else {}},
        }
        invalid = self.fates.get(model["storageUri"].rsplit("/", 1)[1], Fate()).invalid
        failure = {"reason": "InvalidPredictorSpec", "message": invalid}
        if self.api.get("servingruntimes", NAMESPACE, model.get("runtime", "")) is None:
            failure = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
        if failure["message"]:
            status["modelStatus"] = {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure}
        status["canaryStatuses"] = [
            {
                "name": one["predictor"]["name"],
                "ready": ready[f"{name}-{one['predictor']['name']}-predictor"],
                "trafficPercent": one["trafficPercent"],
            }
            for one in service["spec"].get("canary", [])
        ]
        self.api.set_status("inferenceservices", NAMESPACE, name, status)

    def _warn(self, service: str) -> None:
        """What KServe and the autoscaler warn of on every cluster that has no Istio and no metrics."""
        if service in self.warned:
            return
        self.warned.add(service)
        istio = "Istio VirtualService CRD not present; VirtualService reconciliation skipped."
        self._event(service, "InferenceService", "VirtualServiceCRDNotFound", istio)
        metrics = "failed to get cpu utilization: unable to get metrics for resource cpu"
        self._event(f"{service}-predictor", "HorizontalPodAutoscaler", "FailedGetResourceMetric", metrics)

    def _event(self, name: str, kind: str, reason: str, message: str) -> None:
        event = {
            "metadata": {"name": f"{name}.{reason.lower()}"},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "involvedObject": {"kind": kind, "name": name},
        }
        self.api.put("events", NAMESPACE, event)

    def _made_for(self, service: str) -> list[str]:
        return [
            one["metadata"]["name"]
            for one in self.api.all("deployments", NAMESPACE)
            if one["spec"]["template"]["metadata"]["labels"]["serving.kserve.io/inferenceservice"] == service
        ]

    def _remove_deployments(self, names: set[str]) -> None:
        for name in names:
            for pod in self._pods(name):
                self._stop_pod(pod)
            self.api.remove("deployments", NAMESPACE, name)
            self.service(name).exists = False
            self.service(name).point_to({})


class Service:
    """A Kubernetes Service: one address in front of the ready pods, who are told from when on they were."""

    def __init__(self) -> None:
        self.exists = False
        self.endpoints: list[tuple[float, dict[str, str]]] = []
        self.listener = listen(lambda path: (self.draw(), path))
        self.url = f"http://127.0.0.1:{self.listener.server_port}"

    def point_to(self, pods: dict[str, str]) -> None:
        """Send requests to these pods (addresses by name)."""
        if not self.endpoints or self.endpoints[-1][1] != pods:
            self.endpoints.append((time.monotonic(), pods))

    def pods_at(self, moment: float) -> dict[str, str]:
        """The pods that it sent requests to at a moment."""
        return ([{}] + [pods for since, pods in self.endpoints if since <= moment])[-1]

    def draw(self) -> str | int:
        """The address of the pod that gets the next request, or the status without one."""
        pods = self.endpoints[-1][1] if self.endpoints else {}
        return random.choice(sorted(pods.values())) if pods else 503


def listen(route: Callable[[str], tuple[str | int, str]]) -> ThreadingHTTPServer:
    """A listener that passes each request on to the pod, and on the path, that `route` says; or answers its status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pod, path = route(self.path)
            if isinstance(pod, int):
                self.send_response(pod)
                self.end_headers()
                return
            headers = {"Content-Type": self.headers["Content-Type"]}
            answer = requests.post(pod + path, body, headers=headers, timeout=20)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            return

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    return listener


def merged(first: Object, second: Object) -> Object:
    """Fields of both objects; where both have one, those of the second. So KServe makes a canary's predictor."""
    both = first | second
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict):
            both[key] = merged(first[key], second[key])
    return both


def _crash_loop(reason: str) -> Object:
    return {
        "ready": False,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": reason}},
    }


@contextmanager
def running(cluster: KServeCluster) -> Iterator[KServeCluster]:
    """The controllers at work for the length of the block. Raises what went wrong in them."""
    cluster.thread.start()
    try:
        yield cluster
    finally:
        cluster.done.set()
        cluster.thread.join()
        for listener in (cluster.door, *(service.listener for service in cluster.services.values())):
            listener.shutdown()
            listener.server_close()
    if cluster.failure:
        raise cluster.failure
