"""A small KFP API server over HTTP: the calls that submitting and following take, in the shapes of KFP 2.17.0."""

import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import kfp_runs

MOMENT = "2026-11-23T20:00:00Z"


@dataclass
class KfpApi:
    """What the server holds, and how it behaves."""

    multi_user: bool = False
    token: str = ""  # asked for when set
    cookies: str = ""
    version: str = "v2beta1"
    namespaces: tuple[str, ...] = ("team",)
    tag: str = "2.17.0"
    states: list[str] = field(default_factory=list)  # what each look at a run finds, as names of tests/fakes/runs
    logs: dict[str, str] = field(default_factory=dict)  # what a pod wrote, by the template or step in its name
    drop: int = 0  # so many looks at a run are not answered
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, target: str, body: bytes, headers: Any) -> tuple[int, Any]:
        """Status and JSON of a request."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"error": "unauthenticated", "code": 16, "message": "Request header error: there is no user."}
        if self.cookies and headers.get("Cookie") != self.cookies:
            return 302, {}
        if self.version == "v2beta1" and (older := re.fullmatch(r"/apis/v1(?:beta|alpha)1/(.*)", url.path)):
            return self._older(older[1].split("/"))
        prefix = f"/apis/{self.version}/"
        if not url.path.startswith(prefix):
            return 404, {"message": "Not Found"}
        kind, *rest = url.path.removeprefix(prefix).split("/")
        self.requests.append((method, url.path))
        return getattr(self, f"_{kind}")(method, rest, query, body)

    def _healthz(self, *_: Any) -> tuple[int, Any]:
        return 200, {"commit_sha": "unknown", "tag_name": self.tag, "multi_user": self.multi_user}

    def _older(self, path: list[str]) -> tuple[int, Any]:
        """The addresses that only the older API has: Argo's tree of a run, and the log of a pod."""
        if path == ["healthz"]:
            return self._healthz()
        run = self.runs[path[1]]
        if path[2:3] == ["nodes"]:
            found = [text for name, text in self.logs.items() if name in path[3]]
            return 200, found[0] if found else {"error_message": f"Failed to read logs for run {path[1]}"}
        return 200, kfp_runs.v1beta1(run, kfp_runs.described(self._seen))

    @property
    def _seen(self) -> str:
        """The state that the last look found."""
        return self.states[min(self.looks, len(self.states)) - 1]

    def _pipelines(self, method: str, rest: list[str], query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if rest == ["upload"]:
            namespace = query.get("namespace", "")
            if self._pipelines_in(namespace, query["name"]):
                return 409, {"message": f"Already exist error: The name {query['name']} already exist."}
            made = self._new(self.pipelines, "pipeline_id", display_name=query["name"], namespace=namespace)
            self._version(made["pipeline_id"], query["name"], body)
            return 200, made
        if rest == ["upload_version"]:
            if self._named(self.versions, query["name"]):
                return 409, {"message": f"Already exist error: The name {query['name']} already exist."}
            return 200, self._version(query["pipelineid"], query["name"], body)
        if rest[1:] == ["versions"]:
            return 200, {"pipeline_versions": self._named(self.versions, wanted(query))}
        return 200, {"pipelines": self._pipelines_in(query.get("namespace", ""), wanted(query))}

    def _pipelines_in(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """As in KFP, without a namespace only those of no namespace."""
        return [one for one in self._named(self.pipelines, name) if one["namespace"] == namespace]

    def _version(self, pipeline_id: str, name: str, body: bytes) -> dict[str, Any]:
        assert b"pipelineInfo" in body
        return self._new(self.versions, "pipeline_version_id", display_name=name, pipeline_id=pipeline_id)

    def _experiments(self, method: str, rest: list[str], query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "POST":
            sent = json.loads(body)
            namespace = sent.get("namespace", "")
            if bool(namespace) != self.multi_user:
                return 400, {"message": "Invalid input error: namespace and mode do not fit."}
            if namespace and namespace not in self.namespaces:
                return 403, {"message": f"User is not authorized with reason: no access to namespace {namespace}"}
            return 200, self._new(self.experiments, "experiment_id", **sent)
        return 200, {"experiments": self._named(self.experiments, wanted(query))}

    def _runs(self, method: str, rest: list[str], query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "POST":
            return 200, self._new(self.runs, "run_id", **json.loads(body))
        self.looks += 1
        return 200, kfp_runs.v2beta1(self.runs[rest[0]], kfp_runs.described(self._seen))

    def _recurringruns(self, method: str, rest: list[str], query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "POST":
            return 200, self._new(self.recurring, "recurring_run_id", **json.loads(body))
        if method == "DELETE":
            del self.recurring[rest[0]]
            return 200, {}
        return 200, {"recurringRuns": list(self.recurring.values())}

    @staticmethod
    def _new(kept: dict[str, dict[str, Any]], key: str, **fields: Any) -> dict[str, Any]:
        made = {key: str(uuid.uuid4()), "created_at": MOMENT, **fields}
        kept[made[key]] = made
        return made

    @staticmethod
    def _named(kept: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
        return [one for one in kept.values() if one["display_name"] == name]


def wanted(query: dict[str, str]) -> str:
    """The name that a list request filters by."""
    (predicate,) = json.loads(query["filter"])["predicates"]
    assert predicate["operation"] in ("EQUALS", 1)  # the name or the number of the enum
    return predicate.get("stringValue") or predicate["string_value"]


@contextmanager
def serving(api: KfpApi, certificate: Path | None = None) -> Iterator[str]:
    """The server on a free loopback port; yields its address. With a certificate (and key) it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if api.drop and self.command == "GET" and re.match(r".*/runs/[^/]+$", self.path):
                api.drop -= 1
                self.close_connection = True
                return
            status, answer = api.answer(self.command, self.path, body, self.headers)
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/dex/auth")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - names http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
