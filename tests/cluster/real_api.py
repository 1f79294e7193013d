"""A real API server in the place of the small one: the same scenarios, controllers and kubelet, on Kubernetes itself.

What the tests' controllers keep in Deployments and pods is no valid spec there (a pod of theirs is a model's address),
so it travels as an annotation of valid ones.
"""

import json
import queue
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from tests.cluster.control_plane import ADMIN, STEPS, ControlPlane
from tests.fakes.kserve_cluster import NAMESPACE

Object = dict[str, Any]
ROOTS = {
    "inferenceservices": "/apis/serving.kserve.io/v1beta1",
    "servingruntimes": "/apis/serving.kserve.io/v1alpha1",
    "clusterstoragecontainers": "/apis/serving.kserve.io/v1alpha1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "deployments": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "serviceaccounts": "/api/v1",
}
CARRIED = "test/spec"
NODE = "test-node"


class RealApi:
    """Access as an admin, with the methods that the tests' controllers use on the small API server."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.token = plane, STEPS
        self.lock = threading.RLock()
        self.logs: dict[str, str] = {}
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {ADMIN}"
        self.session.verify, self.session.trust_env = str(plane.certificate), False  # no proxy, no other authority
        self.written: dict[tuple[str, str], Object] = {}  # the status that an object (by uid) was given last

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """An object as the controllers know it."""
        answer = self._call("GET", self._path(plural, namespace, name), missing_is_fine=True)
        return _decoded(plural, answer) if answer else None

    def must_have(self, plural: str, namespace: str, name: str) -> Object:
        """A copy of an object that has to be there."""
        body = self.get(plural, namespace, name)
        assert body is not None, f"there is no {name} of {plural}"
        return body

    def all(self, plural: str, namespace: str) -> list[Object]:
        """All objects of a kind."""
        items = self._call("GET", self._path(plural, namespace))["items"]
        return [_decoded(plural, one) for one in items if "deletionTimestamp" not in one["metadata"]]

    def put(self, plural: str, namespace: str, body: Object) -> None:
        """Write an object whole."""
        name = body["metadata"]["name"]
        there = self._call("GET", self._path(plural, namespace, name), missing_is_fine=True)
        if there and plural == "deployments" and _decoded(plural, there)["spec"] == body["spec"]:
            return
        sent = _encoded(plural, namespace, body)
        if there:
            sent["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
            self._call("PUT", self._path(plural, namespace, name), sent)
        else:
            self._call("POST", self._path(plural, namespace), sent)
        if plural == "pods":
            self.set_status(plural, namespace, name, body["status"])

    def set_status(self, plural: str, namespace: str, name: str, status: Object) -> None:
        """Write the status of an object that is still there."""
        there = self._call("GET", self._path(plural, namespace, name), missing_is_fine=True)
        key = (plural, there["metadata"]["uid"]) if there else None
        if key is None or self.written.get(key) == status:
            return
        removed = dict.fromkeys(there.get("status", {}))
        patch = {"status": removed | {name: value for name, value in status.items() if name != "ready"}}
        path = f"{self._path(plural, namespace, name)}/status"
        self._call("PATCH", path, patch, "application/merge-patch+json", missing_is_fine=True)
        self.written[key] = json.loads(json.dumps(status))

    def terminate(self, plural: str, namespace: str, name: str) -> None:
        """Tell a pod to stop; it is there until it is removed, as nobody plays its kubelet."""
        self._call("DELETE", self._path(plural, namespace, name), {"gracePeriodSeconds": 300}, missing_is_fine=True)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object at once."""
        self._call("DELETE", self._path(plural, namespace, name), {"gracePeriodSeconds": 0}, missing_is_fine=True)

    @property
    def rules(self) -> list[Object]:
        """What the role of the deploy step grants."""
        return self._call("GET", self._path("roles", NAMESPACE, "bin-counter-deploy"))["rules"]

    @rules.setter
    def rules(self, rules: list[Object]) -> None:
        patch = {"rules": rules}
        path = self._path("roles", NAMESPACE, "bin-counter-deploy")
        self._call("PATCH", path, patch, "application/merge-patch+json")
        time.sleep(1)  # until the authoriser has heard of it

    @contextmanager
    def watching(self, plural: str, namespace: str) -> Iterator["queue.Queue[Object]"]:
        """A queue of the changes from now on."""
        version = self._call("GET", self._path(plural, namespace))["metadata"]["resourceVersion"]
        events: queue.Queue[Object] = queue.Queue()
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "60"}
        url = self.plane.url + self._path(plural, namespace)
        answer = self.session.get(url, params=query, stream=True, timeout=90)

        def read() -> None:
            with suppress(requests.RequestException):  # the server has gone
                for line in answer.iter_lines():
                    events.put(json.loads(line))

        threading.Thread(target=read, daemon=True).start()
        yield events
        time.sleep(0.5)  # what was told last has to arrive

    def clear(self) -> None:
        """Remove what a scenario left."""
        query = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        for plural in ("inferenceservices", "httproutes", "leases", "deployments", "pods", "events"):
            self._call("DELETE", self._path(plural, NAMESPACE), query)
        for runtime in self.all("servingruntimes", NAMESPACE):
            if runtime["metadata"]["name"] != "bin-counter":
                self.remove("servingruntimes", NAMESPACE, runtime["metadata"]["name"])

    def _path(self, plural: str, namespace: str, name: str = "") -> str:
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{ROOTS[plural]}{scope}/{plural}" + (f"/{name}" if name else "")

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content_type: str = "application/json",
        missing_is_fine: bool = False,
    ) -> Any:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        answer = self.session.request(method, self.plane.url + path, data=data, headers=headers, timeout=30)
        if answer.status_code == 404 and missing_is_fine:
            return None
        assert answer.ok, f"{method} {path}: {answer.text}"
        return answer.json()


def _encoded(plural: str, namespace: str, body: Object) -> Object:
    if plural == "events":
        involved = body["involvedObject"] | {"namespace": namespace}
        return {**body, "metadata": {**body["metadata"], "namespace": namespace}, "involvedObject": involved}
    if plural == "deployments":
        template = body["spec"]["template"]
        labels, carried = template["metadata"]["labels"], {CARRIED: json.dumps(body["spec"])}
        spec = {
            "replicas": body["spec"]["replicas"],
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {"metadata": {"labels": labels, "annotations": carried}, "spec": _pod_spec()},
        }
        return {"metadata": {"name": body["metadata"]["name"], "annotations": carried}, "spec": spec}
    if plural == "pods":
        carried = {CARRIED: json.dumps(body["spec"])}
        metadata = {"name": body["metadata"]["name"], "labels": body["metadata"]["labels"], "annotations": carried}
        return {"metadata": metadata, "spec": _pod_spec() | {"nodeName": NODE}}
    return body


def _decoded(plural: str, body: Object) -> Object:
    if plural not in ("deployments", "pods"):
        return body
    body["spec"] = json.loads(body["metadata"]["annotations"][CARRIED])
    if plural == "pods":
        conditions = body.setdefault("status", {}).get("conditions", [])
        body["status"]["ready"] = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return body


def _pod_spec() -> Object:
    """A pod that the namespace's Pod Security lets in."""
    container = {
        "image": "example/none:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "serviceAccountName": "bin-counter-serve",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "storage-initializer", **container}],
        "containers": [{"name": "kserve-container", **container}],
    }


@contextmanager
def node(api: RealApi, folder: Path) -> Iterator[None]:
    """A node whose kubelet gives out the logs of `api.logs`, and nothing else."""

    class Kubelet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, kind, _, pod, *_ = self.path.split("?")[0].split("/")
            text = api.logs.get(pod, "").encode() if kind == "containerLogs" else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            return

    key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=node", "-days", "1"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, args=(0.1,), daemon=True).start()
    api._call("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": listener.server_port}},
    }
    api._call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, "application/merge-patch+json")
    try:
        yield
    finally:
        listener.shutdown()
        listener.server_close()
