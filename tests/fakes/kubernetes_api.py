"""A small Kubernetes API server over HTTP for tests, faithful where deploy depends on it.

It has server-side apply with field ownership and conflicts, dry runs, optimistic locking by resourceVersion,
generations, label and field selectors, watches, namespaces that must exist, strict validation against CRD schemas, and
role-based access read from the Role that manifests/ grants. Faults can be switched on.
"""

import copy
import json
import os
import queue
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
Path = tuple[str, ...]
PATH = re.compile(
    r"^(?P<root>/api/v1|/apis/(?P<group>[^/]+)/(?P<version>[^/]+))/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>log))?$"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# As an API server 1.36 says it.
WEBHOOK_DOWN = (
    'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": failed to '
    'call webhook: Post "https://kserve-webhook-server-service.kserve.svc:443/mutate-serving-kserve-io-v1beta1-'
    'inferenceservice?timeout=10s": no endpoints available for service "kserve-webhook-server-service"'
)
NOT_OWNED = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


class Refused(Exception):
    """An answer that is a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass
class Stored:
    """An object with the fields that each manager applied."""

    body: Object
    owned: dict[str, set[Path]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Faults:
    """What goes wrong, until it is taken back."""

    drop_after: int | None = None  # the connection breaks after this many more requests
    unavailable: int = 0  # so many requests are answered 503
    lose_answers: int = 0  # so many writes happen, but the answer never arrives
    webhook_down: bool = False  # KServe's controller does not answer the API server


class ApiServer:
    """Objects by collection and name, and the HTTP server in front of them."""

    def __init__(
        self, namespaces: set[str], groups: dict[str, list[str]], problem: Callable[[Object], str | None]
    ) -> None:
        self.namespaces, self.groups, self.problem = namespaces, groups, problem
        self.rules: list[Object] | None = None  # of a Role; None allows everything
        self.used: set[tuple[str, str]] = set()  # resource and verb of every permission that was needed
        self.token = "test-token"
        self.objects: dict[tuple[str, str, str], Stored] = {}  # by plural, namespace, name
        self.logs: dict[str, str] = {}
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self.counter = 0
        self.watchers: list[tuple[str, str, queue.Queue[Object]]] = []

    # Access from inside, as a controller has it.

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """A copy of an object."""
        with self.lock:
            stored = self.objects.get((plural, namespace, name))
            return copy.deepcopy(stored.body) if stored else None

    def must_have(self, plural: str, namespace: str, name: str) -> Object:
        """A copy of an object that has to be there."""
        body = self.get(plural, namespace, name)
        assert body is not None, f"there is no {name} of {plural}"
        return body

    def all(self, plural: str, namespace: str) -> list[Object]:
        """Copies of all objects of a kind."""
        with self.lock:
            return [
                copy.deepcopy(one.body)
                for (kind, where, _), one in self.objects.items()
                if (kind, where) == (plural, namespace)
            ]

    def put(self, plural: str, namespace: str, body: Object) -> None:
        """Write an object whole (a controller's own), counting generations by its spec."""
        with self.lock:
            self._store(plural, namespace, Stored(copy.deepcopy(body)))

    def set_status(self, plural: str, namespace: str, name: str, status: Object) -> None:
        """Write the status of an object that is still there."""
        with self.lock:
            stored = self.objects.get((plural, namespace, name))
            if stored and stored.body.get("status") != status:
                self._store(plural, namespace, Stored({**stored.body, "status": copy.deepcopy(status)}, stored.owned))

    def terminate(self, plural: str, namespace: str, name: str) -> None:
        """Mark a pod as one that was told to stop; it is there until it is removed."""
        with self.lock:
            stored = self.objects.get((plural, namespace, name))
            if stored:
                metadata = stored.body["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
                self._store(plural, namespace, Stored({**stored.body, "metadata": metadata}, stored.owned))

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object."""
        with self.lock:
            stored = self.objects.pop((plural, namespace, name), None)
            if stored:
                self._tell("DELETED", plural, namespace, stored.body)

    # The HTTP face.

    def answer(self, method: str, target: str, body: bytes, content_type: str) -> tuple[int, object]:
        """Status code and JSON for a request."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        discovery = re.match(r"^/apis/([^/]+)$", url.path)
        if discovery:
            versions = self.groups.get(discovery[1])
            if versions is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            return 200, {"kind": "APIGroup", "name": discovery[1], "versions": [{"version": one} for one in versions]}
        match = PATH.match(url.path)
        if not match or (
            match["group"] and match["version"] not in self.groups.get(match["group"], [match["version"]])
        ):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        plural, namespace, name = match["plural"], match["namespace"], match["name"]
        self._authorise(method, match)
        if method == "GET" and match["sub"] == "log":
            return 200, self.logs.get(name, "")
        if method == "GET" and name:
            return 200, self._found(plural, namespace, name).body
        if method == "GET":
            return 200, {"items": self._selected(plural, namespace, query), "metadata": {}}
        if method == "DELETE":
            self._found(plural, namespace, name)
            self.remove(plural, namespace, name)
            return 200, {"kind": "Status", "status": "Success"}
        if namespace not in self.namespaces:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        if plural == "inferenceservices" and self.faults.webhook_down:
            raise Refused(500, "InternalError", WEBHOOK_DOWN)
        sent = json.loads(body)
        self._validate(plural, sent)
        if method == "POST":
            return self._create(plural, namespace, sent)
        if method == "PUT":
            return self._replace(plural, namespace, name, sent)
        if method == "PATCH" and content_type == "application/apply-patch+yaml":
            return self._apply(plural, namespace, name, sent, query)
        raise Refused(415, "UnsupportedMediaType", f"cannot {method} {content_type}")

    def _authorise(self, method: str, match: re.Match[str]) -> None:
        if self.rules is None:
            return
        verb = VERBS.get(method) or ("get" if match["name"] else "list")
        resource = match["plural"] + (f"/{match['sub']}" if match["sub"] else "")
        for rule in self.rules:
            names = rule.get("resourceNames")
            if (
                (match["group"] or "") in rule["apiGroups"]
                and resource in rule["resources"]
                and verb in rule["verbs"]
                and (names is None or match["name"] in names)
            ):
                # An apply that creates the object needs the right to create, too.
                here = (match["plural"], match["namespace"], match["name"]) in self.objects
                if (
                    verb != "patch"
                    or here
                    or any("create" in one["verbs"] and resource in one["resources"] for one in self.rules)
                ):
                    self.used |= {(resource, verb)} | (set() if here or verb != "patch" else {(resource, "create")})
                    return
        message = f'{resource} "{match["name"]}" is forbidden: User "deployer" cannot {verb} resource "{resource}"'
        raise Refused(403, "Forbidden", message)

    def _found(self, plural: str, namespace: str, name: str) -> Stored:
        stored = self.objects.get((plural, namespace, name))
        if stored is None:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        return stored

    def _selected(self, plural: str, namespace: str, query: dict[str, str]) -> list[Object]:
        labels = [pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair]
        fields = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair]
        return [
            one
            for one in self.all(plural, namespace)
            if all(one["metadata"].get("labels", {}).get(key) == value for key, value in labels)
            and all(str(_dig(one, tuple(key.split(".")))) == value for key, value in fields)
        ]

    def _validate(self, plural: str, sent: Object) -> None:
        problem = self.problem(sent) if plural == "inferenceservices" else None
        if problem:
            raise Refused(400, "BadRequest", f"strict decoding error: {problem}")

    def _create(self, plural: str, namespace: str, sent: Object) -> tuple[int, object]:
        name = sent["metadata"]["name"]
        if (plural, namespace, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{plural} "{name}" already exists')
        return 201, self._store(plural, namespace, Stored(sent))

    def _replace(self, plural: str, namespace: str, name: str, sent: Object) -> tuple[int, object]:
        there = self._found(plural, namespace, name)
        if sent["metadata"].get("resourceVersion") not in (None, there.body["metadata"]["resourceVersion"]):
            message = f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified'
            raise Refused(409, "Conflict", message)
        return 200, self._store(plural, namespace, Stored(sent, there.owned))

    def _apply(self, plural: str, namespace: str, name: str, sent: Object, query: dict[str, str]) -> tuple[int, object]:
        manager, force = query["fieldManager"], query.get("force") == "true"
        there = self.objects.get((plural, namespace, name))
        merged = copy.deepcopy(there) if there else Stored({"metadata": {"name": name}})
        wanted = {path: value for path, value in leaves(sent) if path not in NOT_OWNED}
        for other, paths in merged.owned.items():
            taken = [path for path, value in wanted.items() if path in paths and _dig(merged.body, path) != value]
            if other != manager and taken and not force:
                fields = ", ".join("." + ".".join(path) for path in taken)
                message = f'Apply failed with {len(taken)} conflict: conflict with "{other}": {fields}'
                raise Refused(409, "Conflict", message)
            if other != manager:
                paths.difference_update(taken)
        others = set().union(*(paths for other, paths in merged.owned.items() if other != manager))
        for path in merged.owned[manager] - set(wanted) - others:
            _prune(merged.body, path)
        for path, value in wanted.items():
            _set(merged.body, path, value)
        merged.owned[manager] = set(wanted)
        merged.body |= {"apiVersion": sent["apiVersion"], "kind": sent["kind"]}
        self._validate(plural, {key: value for key, value in merged.body.items() if key != "status"})
        if query.get("dryRun") == "All":
            return 200, merged.body
        return (200 if there else 201), self._store(plural, namespace, merged)

    def _store(self, plural: str, namespace: str, new: Stored) -> Object:
        name = new.body["metadata"]["name"]
        old = self.objects.get((plural, namespace, name))
        metadata = new.body["metadata"]
        before = old.body["metadata"] if old else {"uid": str(uuid.uuid4()), "generation": 0}
        metadata |= {"namespace": namespace, "uid": before["uid"], "generation": before["generation"]}
        if not old or old.body.get("spec") != new.body.get("spec"):
            metadata["generation"] += 1
        metadata["resourceVersion"] = before.get("resourceVersion")
        metadata["managedFields"] = [
            {"manager": manager, "operation": "Apply", "fieldsV1": _fields(new.owned[manager])}
            for manager in sorted(new.owned)
        ]
        if old is None or old.body != new.body:
            self.counter += 1
            metadata["resourceVersion"] = str(self.counter)
            self._tell("MODIFIED" if old else "ADDED", plural, namespace, new.body)
        self.objects[(plural, namespace, name)] = new
        return copy.deepcopy(new.body)

    def _tell(self, kind: str, plural: str, namespace: str, body: Object) -> None:
        for watched, where, events in self.watchers:
            if (watched, where) == (plural, namespace):
                events.put({"type": kind, "object": copy.deepcopy(body)})

    @contextmanager
    def watching(self, plural: str, namespace: str) -> Iterator["queue.Queue[Object]"]:
        """A queue of the changes from now on."""
        events: queue.Queue[Object] = queue.Queue()
        entry = (plural, namespace, events)
        self.watchers.append(entry)
        try:
            yield events
        finally:
            self.watchers.remove(entry)


def leaves(body: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every field of an object with its path; lists are one value, as all lists that deploy applies are atomic."""
    if isinstance(body, dict) and body:
        for key, value in body.items():
            yield from leaves(value, (*path, key))
    elif path:
        yield path, body


def _fields(paths: set[Path]) -> Object:
    """Owned fields as Kubernetes writes them."""
    fields: Object = {}
    for path in paths:
        _set(fields, tuple(f"f:{key}" for key in path), {})
    return fields


def _dig(body: object, path: Path) -> object:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _set(body: Object, path: Path, value: object) -> None:
    for key in path[:-1]:
        body = body.setdefault(key, {})
    body[path[-1]] = copy.deepcopy(value)


def _prune(body: Object, path: Path) -> None:
    """Remove a field, and what is empty without it."""
    *parents, last = path
    holders = [body]
    for key in parents:
        holders.append(holders[-1].get(key, {}))
    holders[-1].pop(last, None)
    for holder, key in zip(reversed(holders[:-1]), reversed(parents), strict=True):
        if holder.get(key) == {}:
            del holder[key]


@contextmanager
def serving(server: ApiServer) -> Iterator[str]:
    """The API server on a free loopback port; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults = server.faults
            if faults.drop_after is not None:
                faults.drop_after -= 1
                if faults.drop_after < 0:
                    self.close_connection = True
                    return
            if "watch=true" in self.path:
                self.stream()
                return
            try:
                if self.headers.get("Authorization") != f"Bearer {server.token}":
                    raise Refused(401, "Unauthorized", "Unauthorized")
                if faults.unavailable:
                    faults.unavailable -= 1
                    raise Refused(503, "ServiceUnavailable", "the server is currently unable to handle the request")
                with server.lock:
                    server.requests.append((self.command, self.path))
                    content_type = self.headers.get("Content-Type", "")
                    code, answer = server.answer(self.command, self.path, body, content_type)
                    answer = copy.deepcopy(answer)
                if faults.lose_answers and self.command != "GET":
                    faults.lose_answers -= 1
                    self.close_connection = True
                    return
            except Refused as refused:
                code = refused.code
                answer = {"kind": "Status", "status": "Failure", "reason": refused.reason, "message": refused.message}
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def stream(self) -> None:
            match = PATH.match(urlsplit(self.path).path)
            assert match is not None
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            with server.watching(match["plural"], match["namespace"]) as events:
                end = time.monotonic() + 5
                while (left := end - time.monotonic()) > 0:
                    try:
                        self.wfile.write(json.dumps(events.get(timeout=left)).encode() + b"\n")
                        self.wfile.flush()
                    except (queue.Empty, OSError):
                        return

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names http.server looks for

        def log_message(self, *_: object) -> None:
            return

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()


def kubeconfig(url: str, token: str, certificate: os.PathLike[str] | None = None) -> Object:
    """The content of a KUBECONFIG."""
    trust = {"certificate-authority": str(certificate)} if certificate else {}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{"name": "u", "user": {"token": token}}],
        "clusters": [{"name": "c", "cluster": {"server": url, **trust}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
