"""The cluster that the acceptance suite runs against, through kubectl, KFP's API and a port-forward to the store.

Nothing here uses the project's own clients of Kubernetes or KFP: a judge asks by other ways than the judged.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest

from components.core.layout import DATA_BUCKET, MODEL_NAME, MODELS_BUCKET, SOURCE_BUCKET

Object = dict[str, Any]
Answer = Any
MODELS_NAMESPACE = "bin-counter"
STORE = "bin-counter-store"


def kubectl(*words: str, given: str | None = None, check: bool = True) -> str:
    """What kubectl prints, with its complaint if it fails. Raises AssertionError instead where `check` is set."""
    done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True)
    assert done.returncode == 0 or not check, f"kubectl {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def objects(kind: str, namespace: str = "", selector: str = "") -> list[Object]:
    """Objects of a kind."""
    words = ["get", kind, "-o", "json", *(["-n", namespace] if namespace else ["-A"])]
    items: list[Object] = json.loads(kubectl(*words, *(["-l", selector] if selector else [])))["items"]
    return items


def find(kind: str, namespace: str, name: str) -> Object | None:
    """One object, or None where it is not there."""
    text = kubectl("get", kind, "-n", namespace, name, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def has_api(group: str) -> bool:
    """Whether the cluster serves an API group."""
    return bool(kubectl("api-resources", f"--api-group={group}", "-o", "name", check=False).strip())


def eventually(what: str, look: Callable[[], Answer], seconds: float, pause: float = 1.0) -> Answer:
    """The first true answer of `look`. Fails the test, naming `what`, when none comes in time."""
    until = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > until:
            pytest.fail(f"{what} was not so within {seconds:.0f} s; last: {answer!r}")
        time.sleep(pause)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def forwarded(namespace: str, service: str, port: int) -> Iterator[str]:
    """The address on this machine of a service's port, as long as the block runs; the forward dies with its pod."""
    command = ["kubectl", "-n", namespace, "port-forward", f"svc/{service}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            assert forward.stdout
            line = forward.stdout.readline()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            assert found, f"{' '.join(command)}: {line.strip()}"
            yield f"http://{found[0]}"
        finally:
            forward.terminate()


@contextmanager
def api_proxy() -> Iterator[str]:
    """The address of `kubectl proxy`, through which every service answers."""
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout
            found = re.search(r"127\.0\.0\.1:\d+", proxy.stdout.readline())
            assert found
            yield f"http://{found[0]}"
        finally:
            proxy.terminate()


@dataclass(frozen=True)
class Site:
    """Where KFP is, how the images are called, and names that nobody else uses."""

    kfp_host: str
    tag: str = field(default_factory=lambda: os.environ.get("TAG", "dev"))
    registry: str = field(default_factory=lambda: os.environ.get("REGISTRY", ""))
    runs_namespace: str = field(default_factory=lambda: os.environ.get("NAMESPACE", "kubeflow"))
    suffix: str = field(default_factory=lambda: uuid4().hex[:8])

    @property
    def name(self) -> str:
        """Name of the suite's own InferenceService and experiment."""
        return f"acceptance-{self.suffix}"

    @property
    def data_uri(self) -> str:
        """Where the runs keep their shards; being part of every cache key, it also makes the first run a new one."""
        return f"s3://{DATA_BUCKET}/{self.name}"

    @property
    def models_uri(self) -> str:
        """The suite's own registry of models, below what the cluster's storage container fetches."""
        return f"s3://{MODELS_BUCKET}/{MODEL_NAME}/{self.name}"

    @property
    def source(self) -> str:
        """The suite's own bins, inside the source bucket."""
        return f"s3://{SOURCE_BUCKET}/{self.name}"

    @property
    def deploy_options(self) -> Object:
        """The option that keeps the suite away from what is in service."""
        return {"name": self.name}

    def kfp(self, path: str, method: str = "GET") -> Object:
        """An answer of KFP's API."""
        headers = {"Authorization": f"Bearer {os.environ['KFP_TOKEN']}"} if os.environ.get("KFP_TOKEN") else {}
        answer = httpx.request(method, self.kfp_host.rstrip("/") + path, headers=headers, timeout=30)
        answer.raise_for_status()
        found: Object = answer.json()
        return found
