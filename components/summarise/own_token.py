"""A token with which a step may ask KFP's API in the name of its own service account."""

import base64
import binascii
import json
from pathlib import Path

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.runs_api import TOKEN_AUDIENCE

# Every pod's own token, which names its account but is for the Kubernetes API only.
MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
SECONDS = 600  # the shortest life that Kubernetes gives


def own_headers(cluster: Cluster | None = None, mounted: Path = MOUNTED) -> dict[str, str]:
    """HTTP headers with a fresh token for KFP's API; none where it cannot be had, which a KFP without users allows."""
    try:
        namespace, name = _account(mounted)
        cluster = cluster or Cluster.connect("see the run's page")
        wanted = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [TOKEN_AUDIENCE], "expirationSeconds": SECONDS},
        }
        made = cluster.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", wanted)
    except UserError as error:
        print(f"No token for KFP's API: {error}", flush=True)
        return {}
    return {"Authorization": f"Bearer {made['status']['token']}"}


def _account(mounted: Path) -> tuple[str, str]:
    """Namespace and name of the service account, from the subject of its token."""
    try:
        payload = mounted.read_text().split(".")[1]
        subject = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
        _, _, namespace, name = subject.split(":")
    except (OSError, ValueError, LookupError, binascii.Error) as error:
        raise UserError("this pod has no token of a service account.") from error
    return namespace, name
