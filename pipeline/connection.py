"""A connection to a KFP API server: plain, multi-user with a token or cookies, or from inside the cluster."""

import os
import re
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from components.core.errors import UserError
from components.core.location import ca_bundle
from components.core.ports import ask_loopback_directly
from components.core.runs_api import IN_CLUSTER_HOST

if TYPE_CHECKING:
    import kfp

TOKEN_VARIABLE = "KFP_TOKEN"  # noqa: S105 - a variable's name
COOKIES_VARIABLE = "KFP_COOKIES"
IN_CLUSTER = "in-cluster"
# KFP's own place for the projected service account token that its API server accepts.
PROJECTED_TOKEN = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token"))
HEALTH = "/apis/v2beta1/healthz"
VERSION = "/apis/v1beta1/healthz"
# KFP 2.15 and 2.16 try a user's mistake three times and give up on a pod that is lost; 2.17 turned that round.
OLDEST = (2, 17)
TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Server:
    """Where the API is and how to be let in. Token and cookies come from the environment, never from arguments."""

    host: str
    namespace: str
    token: str
    cookies: str
    token_file: Path | None = None  # read anew for every request, because the kubelet renews it

    @classmethod
    def from_environment(cls, host: str, namespace: str) -> "Server":
        """Read the credentials. Raises UserError when no host is given, or one that is no address."""
        token, cookies = os.environ.get(TOKEN_VARIABLE, ""), os.environ.get(COOKIES_VARIABLE, "")
        if not host:
            raise UserError(
                "No KFP was named; give its address, KFP_HOST=http://localhost:8080, or KFP_HOST=in-cluster."
            )
        ask_loopback_directly()
        if host == IN_CLUSTER:
            mounted = PROJECTED_TOKEN if not token and PROJECTED_TOKEN.is_file() else None
            return cls(IN_CLUSTER_HOST, namespace, token, cookies, mounted)
        if not host.startswith(("http://", "https://")):
            raise UserError(f"KFP_HOST={host} should begin with http:// or https://.")
        return cls(host.rstrip("/"), namespace, token, cookies)

    def headers(self) -> dict[str, str]:
        """HTTP headers that carry the credentials."""
        token = self.token_file.read_text().strip() if self.token_file else self.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return headers | ({"Cookie": self.cookies} if self.cookies else {})


def connect(server: Server) -> "kfp.Client":
    """A client that has been let in. Raises UserError with the reason when that does not work."""
    multi_user = _healthy(server)
    _check_version(server)
    if multi_user and not server.namespace:
        raise UserError("This Kubeflow has several users; say in which namespace to run, NAMESPACE=<your profile>.")
    if server.namespace and not multi_user:
        raise UserError("This KFP has no users with namespaces of their own; leave NAMESPACE out.")
    import kfp
    from kfp.client import ServiceAccountTokenVolumeCredentials

    mounted = ServiceAccountTokenVolumeCredentials(str(server.token_file)) if server.token_file else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = kfp.Client(
            host=server.host,
            namespace=server.namespace or "kubeflow",
            existing_token=server.token or None,
            cookies=server.cookies or None,
            credentials=mounted,
            ssl_ca_cert=str(authority) if (authority := ca_bundle()) else None,
        )
    # A plain KFP refuses a namespace; the client would send one that an earlier session left behind.
    client._context_setting["namespace"] = server.namespace if multi_user else ""
    return client


def _ask(server: Server, path: str) -> httpx.Response:
    authority = ca_bundle()
    trusted = ssl.create_default_context(cafile=str(authority)) if authority else True
    return httpx.get(server.host + path, headers=server.headers(), timeout=TIMEOUT_SECONDS, verify=trusted)


def _healthy(server: Server) -> bool:
    """Whether the server has several users. Raises UserError when it is not a KFP v2 that lets us in."""
    try:
        answer = _ask(server, HEALTH)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "certificate" in str(error).lower():
            raise UserError(
                f"The certificate of KFP at {server.host} is not trusted ({error}); name the file with its authority "
                "in SSL_CERT_FILE."
            ) from error
        raise UserError(
            f"KFP at {server.host} cannot be reached ({error or type(error).__name__}); check KFP_HOST, "
            "and that the port-forward runs."
        ) from error
    if answer.status_code in (301, 302, 303, 307, 401, 403):
        raise UserError(
            f"KFP at {server.host} does not let us in (status {answer.status_code}); set {TOKEN_VARIABLE} to a token, "
            f"or {COOKIES_VARIABLE} to the cookies of a browser that is logged in."
        )
    if answer.status_code == 404:
        raise UserError(
            f"{server.host} has no KFP v2 API ({HEALTH} is not there); upgrade KFP to 2.17 or newer, or check KFP_HOST."
        )
    try:
        answer.raise_for_status()
        return bool(answer.json().get("multi_user", answer.json().get("multiUser", False)))
    except (httpx.HTTPStatusError, ValueError, AttributeError) as error:
        raise UserError(
            f"{server.host} answers, but not as a KFP does (status {answer.status_code}); check KFP_HOST."
        ) from error


def _check_version(server: Server) -> None:
    """Raise UserError for a KFP that is too old; one that was built without a version is taken as it is."""
    try:
        # Before 2.17 only this older address tells the version.
        answer = _ask(server, VERSION)
        told = answer.json()
        # The web page in front of the API server passes it on under a name of its own.
        tag = str(told.get("tag_name") or told.get("apiServerTagName") or "")
    except (httpx.HTTPError, ValueError, AttributeError):
        return
    found = re.match(r"v?(\d+)\.(\d+)", tag)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        raise UserError(
            f"KFP at {server.host} is {tag}, and 2.17 is the oldest that will do: earlier ones try a step again after "
            "a mistake of yours, and not when its pod was lost; upgrade KFP."
        )


@contextmanager
def explained(doing: str, server: Server) -> Iterator[None]:
    """Turn a refusal of the API server inside the block into a UserError that says what to do."""
    import json

    import kfp_server_api
    from urllib3.exceptions import HTTPError

    try:
        yield
    except HTTPError as error:
        raise UserError(f"The connection to KFP at {server.host} broke while {doing}; run again.") from error
    except kfp_server_api.ApiException as error:
        try:
            message = str(json.loads(error.body)["message"])
        except (TypeError, ValueError, KeyError):
            message = str(error.reason or "no reason given")
        message = message.strip().rstrip(".")[:300]
        where = f" in namespace {server.namespace}" if server.namespace else ""
        if error.status == 401:
            advice = f"renew {TOKEN_VARIABLE} or {COOKIES_VARIABLE}"
        elif error.status == 403:
            advice = "check that the namespace exists and that you may work there"
        else:
            advice = "correct that and run again"
        raise UserError(f"KFP refused {doing}{where} ({error.status}: {message}); {advice}.") from error
