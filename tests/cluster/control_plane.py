"""A real control plane for tests: etcd and kube-apiserver, as `setup-envtest` lays them into KUBEBUILDER_ASSETS.

It has the CRDs and an overlay of manifests/, authorises by their roles, and admits pods by Pod Security. There are no
controllers and no nodes; those the tests play.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from kubernetes import client

from components.core.ports import free_ports
from tests.fakes.kubernetes_api import kubeconfig
from tests.schemas import CRDS

Object = dict[str, Any]
ADMIN = "test-admin-token"
STEPS = "test-steps-token"  # of the service account that the pipeline's steps run as, where KFP is for one user
USERS = f"""{ADMIN},admin,1,system:masters
{STEPS},system:serviceaccount:kubeflow:bin-counter-pipeline,2,"system:serviceaccounts,system:serviceaccounts:kubeflow"
"""
MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
START_SECONDS = 240


@dataclass(frozen=True)
class ControlPlane:
    """A running API server: its address, the file of its certificate, and kubectl with the rights of an admin."""

    url: str
    certificate: Path
    kubeconfig: Path
    programs: Path

    def kubectl(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl as the admin."""
        words = [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(words, input=given, capture_output=True, text=True, check=False)

    def apply(self, folder: str) -> str:
        """`kubectl apply --server-side -k` of a folder of manifests/; the test fails where anything is refused."""
        ended = self.kubectl("apply", "--server-side", "--validate=strict", "-k", str(MANIFESTS / folder))
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    def configuration(self, token: str) -> client.Configuration:
        """Of a client that comes with this token."""
        configuration = client.Configuration(host=self.url, api_key={"authorization": f"Bearer {token}"})
        configuration.ssl_ca_cert = str(self.certificate)
        return configuration


@contextmanager
def running(folder: Path) -> Iterator[ControlPlane]:
    """Start one with its state in `folder`. Skips the test where the programs or the CRDs are not at hand."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not assets:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with etcd, kube-apiserver and kubectl")
    if not CRDS.is_dir():
        pytest.skip("the CRD schemas are not beside this checkout")
    programs, [clients, peers, port] = Path(assets).absolute(), free_ports(3)
    log = (folder / "log").open("w")
    etcd = subprocess.Popen(
        [
            programs / "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{clients}",
            f"--advertise-client-urls=http://127.0.0.1:{clients}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
            f"--initial-cluster=default=http://127.0.0.1:{peers}",
            "--unsafe-no-fsync",
        ],
        stdout=log,
        stderr=log,
    )
    (folder / "tokens.csv").write_text(USERS)
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    server = subprocess.Popen(
        [
            programs / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{clients}",
            f"--cert-dir={folder / 'certificates'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--kubelet-preferred-address-types=InternalIP",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        certificate = folder / "certificates" / "apiserver.crt"
        plane = ControlPlane(f"https://127.0.0.1:{port}", certificate, folder / "kubeconfig", programs)
        _wait(plane, server)
        plane.kubeconfig.write_text(json.dumps(kubeconfig(plane.url, ADMIN, certificate)))
        _install(plane)
        yield plane
    finally:
        for process in (server, etcd):
            process.terminate()
            process.wait()
        log.close()


def _install(plane: ControlPlane) -> None:
    """KFP's namespace, and the CRDs; with those that are not at hand as kinds whose fields nobody checks."""
    assert plane.kubectl("create", "namespace", "kubeflow").returncode == 0
    for path in sorted(CRDS.glob("*.yaml")):
        ended = plane.kubectl("apply", "--server-side", "-f", str(path))
        assert ended.returncode == 0, ended.stderr
    unchecked = [
        _crd("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", "Namespaced"),
        _crd("serving.kserve.io", "v1alpha1", "ClusterStorageContainer", "clusterstoragecontainers", "Cluster"),
        _crd("cert-manager.io", "v1", "Issuer", "issuers", "Namespaced"),
        _crd("cert-manager.io", "v1", "Certificate", "certificates", "Namespaced"),
    ]
    ended = plane.kubectl("apply", "--server-side", "-f", "-", given=yaml.safe_dump_all(unchecked))
    assert ended.returncode == 0, ended.stderr
    ended = plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    assert ended.returncode == 0, ended.stderr


def _crd(group: str, version: str, kind: str, plural: str, scope: str) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "names": {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": scope,
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def _wait(plane: ControlPlane, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, (plane.kubeconfig.parent / "log").read_text()[-2000:]
        try:
            headers = {"Authorization": f"Bearer {ADMIN}"}
            if requests.get(f"{plane.url}/readyz", headers=headers, verify=plane.certificate, timeout=5).ok:
                return
        except (requests.RequestException, OSError):
            pass  # not yet there, nor its certificate
        time.sleep(0.2)
    raise AssertionError((plane.kubeconfig.parent / "log").read_text()[-2000:])
