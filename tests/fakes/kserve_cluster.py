"""KServe's controller, a scheduler and a kubelet for tests, on the small API server.

Each InferenceService gets a Deployment, pods by a rolling update, a Service, and a status as KServe 0.21 writes it. A
pod that runs answers through the real model server on the version that its storageUri names. How pods of a version fare
is up to the test.
"""

import itertools
import random
import threading
import time
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
    spares: set[str] = field(default_factory=set)  # InferenceServices in which the pods fare well all the same


class KServeCluster:
    """The controllers, working in a thread until `stop`."""

    def __init__(self, api: ApiServer, server_of: Callable[[str], str], knative: bool = False) -> None:
        self.api, self.server_of, self.knative = api, server_of, knative
        self.fates: dict[str, Fate] = {}
        self.services: dict[str, Service] = {}
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

    def _by_name(self, path: str) -> tuple["Service", str]:
        _, name, rest = path.split("/", 2)
        return self.service(name), f"/{rest}"

    def _work(self) -> None:
        while not self.done.is_set():
            try:
                with self.api.lock:
                    self._reconcile()
            except Exception as error:
                self.failure = error
                raise
            time.sleep(0.02)

    def _reconcile(self) -> None:
        wanted: set[str] = set()
        for service in self.api.all("inferenceservices", NAMESPACE):
            name, predictor = service["metadata"]["name"], service["spec"].get("predictor", {})
            parts = {f"{name}-predictor": predictor}
            for one in service["spec"].get("canary", []):
                canary = one["predictor"]
                parts[f"{name}-{canary['name']}-predictor"] = predictor | canary
            if not predictor.get("model", {}).get("storageUri"):
                continue
            wanted |= set(parts)
            ready = {deployment: self._deployment(name, deployment, part) for deployment, part in parts.items()}
            self._route(service)
            self._status(service, ready)
        for deployment in self.api.all("deployments", NAMESPACE):
            if deployment["metadata"]["name"] not in wanted:
                self._remove_deployment(deployment["metadata"]["name"])

    def _deployment(self, service: str, name: str, predictor: Object) -> bool:
        """Bring a Deployment and its pods one step towards the predictor; whether all its pods are new and ready."""
        labels = {"serving.kserve.io/inferenceservice": service, "app": name, **predictor.get("labels", {})}
        template = {"metadata": {"labels": labels}, "spec": {"model": predictor["model"]}}
        there = self.api.get("deployments", NAMESPACE, name) or {"metadata": {"name": name}}
        self.api.put("deployments", NAMESPACE, there | {"spec": {"replicas": 1, "template": template}})
        uri = predictor["model"]["storageUri"]
        version = uri.rsplit("/", 1)[1]
        fate = self.fates.get(version, Fate())
        fate = Fate() if service in fate.spares else fate
        pods = [one for one in self.api.all("pods", NAMESPACE) if one["metadata"]["labels"]["app"] == name]
        new = [one for one in pods if one["spec"] == template["spec"] and one["metadata"]["labels"] == labels]
        if not new and not fate.quota and not fate.invalid:
            self._make_pod(name, labels, template["spec"], fate, service, version)
        up = [one for one in new if one["status"]["phase"] == "Running" and one["status"]["ready"]]
        if up:
            for old in pods:
                if old not in new:
                    self.api.remove("pods", NAMESPACE, old["metadata"]["name"])
        failure = [{"type": "ReplicaFailure", "status": "True", "message": fate.quota}] if fate.quota else []
        left = len(self._pods(name))
        ready = len(self._ready(name))
        status = {"replicas": left, "updatedReplicas": len(new), "readyReplicas": ready, "availableReplicas": ready}
        generation = self.api.get("deployments", NAMESPACE, name)["metadata"]["generation"]
        self.api.set_status(
            "deployments", NAMESPACE, name, status | {"observedGeneration": generation, "conditions": failure}
        )
        return bool(up) and left == 1

    def _make_pod(self, deployment: str, labels: Object, spec: Object, fate: Fate, service: str, version: str) -> None:
        name = f"{deployment}-{next(self.pods)}"
        self.history.append((service, version))
        container: Object = {"name": "kserve-container", "restartCount": 0, "state": {"running": {}}}
        scheduled = {"type": "PodScheduled", "status": "True"}
        if fate.waiting:
            container["state"] = {"waiting": {"reason": fate.waiting[0], "message": fate.waiting[1]}}
        if fate.crashes:
            container |= {
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }
            self.api.logs[name] = "loading\nerror: the model is damaged\n"
        if fate.unschedulable:
            message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        fetcher: Object = {"name": "storage-initializer", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}
        if fate.fetching:
            ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
            fetcher |= {"restartCount": 2, "state": ended}
            container["state"] = {"waiting": {"reason": "PodInitializing"}}
            self.api.logs[name] = fate.fetching
        bad = fate.waiting or fate.crashes or fate.unschedulable or fate.fetching
        ready = not bad and not fate.never_ready
        if fate.never_ready:
            event = {
                "metadata": {"name": f"{name}.1"},
                "type": "Warning",
                "reason": "Unhealthy",
                "message": "Readiness probe failed: 503",
                "involvedObject": {"kind": "Pod", "name": name},
            }
            self.api.put("events", NAMESPACE, event)
        status = {
            "phase": "Pending" if bad else "Running",
            "ready": ready,
            "conditions": [scheduled, {"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [] if fate.unschedulable else [fetcher],
            "containerStatuses": [] if fate.unschedulable else [container],
        }
        self.api.put("pods", NAMESPACE, {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})

    def _pods(self, deployment: str) -> list[Object]:
        return [one for one in self.api.all("pods", NAMESPACE) if one["metadata"]["labels"]["app"] == deployment]

    def _ready(self, deployment: str) -> list[Object]:
        return [one for one in self._pods(deployment) if one["status"]["ready"]]

    def _backends(self, deployment: str) -> list[str]:
        uris = [one["spec"]["model"]["storageUri"] for one in self._ready(deployment)]
        return [self.server_of(uri.rsplit("/", 1)[1]) for uri in uris]

    def _route(self, service: Object) -> None:
        """Point the Services to ready pods; the main one shares its traffic with a canary that is ready."""
        name = service["metadata"]["name"]
        stable = self._backends(f"{name}-predictor")
        shares: list[tuple[int, list[str]]] = []
        for one in service["spec"].get("canary", []):
            canary = f"{name}-{one['predictor']['name']}-predictor"
            backends = self._backends(canary)
            self.service(canary).backends = [(100, backends)] if backends else []
            shares += [(one["trafficPercent"], backends)] if backends else []
        rest = 100 - sum(share for share, _ in shares)
        self.service(f"{name}-predictor").backends = ([(rest, stable)] if stable else []) + shares

    def _status(self, service: Object, ready: dict[str, bool]) -> None:
        name, generation = service["metadata"]["name"], service["metadata"]["generation"]
        predictor = f"{name}-predictor"
        version = service["spec"]["predictor"]["model"]["storageUri"].rsplit("/", 1)[1]
        serves = bool(self._ready(predictor))  # as in KServe: ready all through a rolling update
        conditions = [{"type": "PredictorReady", "status": str(serves)}, {"type": "Ready", "status": str(serves)}]
        if not serves:
            for one in conditions:
                one["message"] = f"Deployment {predictor} has minimum availability: no"
        revision = f"{predictor}-{generation:05d}"
        revisions = {"latestCreatedRevision": revision} | (
            {"latestReadyRevision": revision} if ready[predictor] else {}
        )
        status: Object = {
            # KServe's own flaw: the counter of the Deployment, not of the InferenceService.
            "observedGeneration": self.api.get("deployments", NAMESPACE, predictor)["metadata"]["generation"],
            "conditions": conditions,
            "address": {"url": self.service(predictor).url},
            "components": {"predictor": revisions if self.knative else {}},
        }
        invalid = self.fates.get(version, Fate()).invalid
        if invalid:
            failure = {"reason": "InvalidPredictorSpec", "message": invalid}
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

    def _remove_deployment(self, name: str) -> None:
        for pod in self._pods(name):
            self.api.remove("pods", NAMESPACE, pod["metadata"]["name"])
        self.api.remove("deployments", NAMESPACE, name)
        self.service(name).backends = []


class Service:
    """A Kubernetes Service: one address in front of the ready pods, shares by weight."""

    def __init__(self) -> None:
        self.backends: list[tuple[int, list[str]]] = []
        self.listener = listen(lambda path: (self, path))
        self.url = f"http://127.0.0.1:{self.listener.server_port}"

    def draw(self) -> str | None:
        """The address of the pod that gets the next request."""
        choices = [(weight, urls) for weight, urls in self.backends if urls and weight]
        if not choices:
            return None
        [urls] = random.choices([urls for _, urls in choices], [weight for weight, _ in choices])
        return random.choice(urls)


def listen(route: Callable[[str], tuple[Service, str]]) -> ThreadingHTTPServer:
    """A listener that passes each request on to a pod of the Service, and on the path, that `route` says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service, path = route(self.path)
            pod = service.draw()
            if pod is None:
                self.send_response(503)
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
