"""The Kubernetes API as our steps use it: a few verbs on plain objects, retried, with errors in sentences."""

import builtins
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from components.core.errors import UserError

Object = dict[str, Any]  # a Kubernetes object as JSON

# Verbs are repeatable as we use them (get, apply, delete, and creation with a name), so each may be tried again.
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS = (5, 30)
PASSING_STATUSES = (429, 500, 502, 503, 504)
# What the API server says when the controller behind a webhook does not answer it.
WEBHOOK = re.compile(
    r'failed calling webhook "(?P<name>[^"]+)".*?https://(?P<service>[^./:]+)\.(?P<namespace>[^./:]+)\.svc'
)


class ConflictError(UserError):
    """Another one changed or owns what was to be written (409)."""


class AwayError(UserError):
    """The API server did not answer, or asked to come back later, at every attempt."""


class Cluster:
    """Access to one API server. Every method raises AwayError when it cannot be reached, UserError when it refuses."""

    def __init__(self, api: client.ApiClient, first_pause: float = FIRST_PAUSE_SECONDS) -> None:
        self.api = api
        self.first_pause = first_pause

    @classmethod
    def connect(cls, otherwise: str) -> "Cluster":
        """Inside a cluster as the pod's service account, else as KUBECONFIG says.

        Raises UserError without either; `otherwise` says how to do without a cluster.
        """
        try:
            config.load_incluster_config()
        except ConfigException:
            try:
                config.load_kube_config()
            except (ConfigException, OSError) as error:
                raise UserError(
                    "There is no cluster: this is not a pod, and KUBECONFIG names no usable configuration; "
                    f"set it, or {otherwise}."
                ) from error
        return cls(client.ApiClient())

    def versions(self, group: str) -> "builtins.list[str]":
        """The versions of an API group that the cluster serves, none where it is not installed."""
        found = self.get(f"/apis/{group}")
        return [one["version"] for one in found["versions"]] if found else []

    def get(self, path: str) -> Object | None:
        """The object at an API path, None when it is not there."""
        try:
            return self._call("GET", path)
        except ApiException as error:
            if error.status == 404:
                return None
            raise _explained(error, "read", path) from error

    def list(self, path: str, label_selector: str = "", field_selector: str = "") -> "builtins.list[Object]":
        """The objects of a collection that the selectors choose."""
        query = [("labelSelector", label_selector), ("fieldSelector", field_selector)]
        try:
            answer = self._call("GET", path, [pair for pair in query if pair[1]])
        except ApiException as error:
            raise _explained(error, "list", path) from error
        return cast("builtins.list[Object]", answer["items"])

    def apply(self, path: str, body: Object, manager: str, take_over: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply under a field manager. Raises ConflictError when another manager owns a field.

        With `dry_run` the API server only says whether it would accept the object.
        """
        query = [("fieldManager", manager), ("force", str(take_over).lower()), ("fieldValidation", "Strict")]
        query += [("dryRun", "All")] if dry_run else []
        try:
            return self._call("PATCH", path, query, body, "application/apply-patch+yaml")
        except ApiException as error:
            raise _explained(error, "apply", path) from error

    def create(self, path: str, body: Object) -> Object:
        """Create an object. Raises ConflictError when it exists."""
        try:
            return self._call("POST", path, body=body)
        except ApiException as error:
            raise _explained(error, "create", path) from error

    def replace(self, path: str, body: Object) -> Object:
        """Replace an object that must still have the resourceVersion of `body`. Raises ConflictError when not."""
        try:
            return self._call("PUT", path, body=body)
        except ApiException as error:
            raise _explained(error, "replace", path) from error

    def delete(self, path: str) -> None:
        """Delete an object and what belongs to it; one that is not there is fine."""
        try:
            self._call("DELETE", path, body={"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != 404:
                raise _explained(error, "delete", path) from error

    def log(self, path: str, container: str, **options: str) -> str:
        """A container's log, "" when there is none to be had; `options` are the API's own, such as tailLines."""
        query = [("container", container), *options.items()]
        try:
            return self._call("GET", f"{path}/log", query, response_type="str") or ""
        except ApiException:
            return ""

    def _call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: object = None,
        content_type: str = "application/json",
        response_type: str = "object",
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}

        def call() -> Any:
            return self.api.call_api(
                path,
                method,
                query_params=list(query),
                header_params=headers,
                body=body,
                response_type=response_type,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=TIMEOUT_SECONDS,
            )

        return self._retried(call)

    def _retried(self, call: Callable[[], Any]) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except urllib3.exceptions.HTTPError as error:
                if attempt == ATTEMPTS:
                    host = self.api.configuration.host
                    raise AwayError(
                        f"The Kubernetes API at {host} cannot be reached ({type(error).__name__}); check the "
                        "connection and run again, which goes on where this stopped."
                    ) from error
            except ApiException as error:
                if error.status not in PASSING_STATUSES or attempt == ATTEMPTS:
                    raise
            time.sleep(self.first_pause * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


def dead_webhook(message: str) -> str:
    """Whose webhook does not answer, according to a message of the API server; "" when it is about something else."""
    found = WEBHOOK.search(message)
    if not found:
        return ""
    owner = "KServe's webhook" if "kserve" in found["name"] else f"the webhook {found['name']}"
    return f"{owner} does not answer (Service {found['service']} in namespace {found['namespace']})"


def _explained(error: ApiException, verb: str, path: str) -> UserError:
    """One sentence for a refusal of the API server."""
    try:
        message = str(json.loads(error.body)["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        message = f"{error.status} {error.reason}"
    if error.status == 401:
        return UserError(
            f"The cluster does not accept our credentials ({message}); log in again or renew KUBECONFIG's token."
        )
    if error.status == 403:
        return UserError(
            f"We may not {verb} {path}: {message}; check the namespace, or give the service account the role in "
            "manifests/ (the permissions are listed in manifests/README.md)."
        )
    if error.status == 409:
        return ConflictError(f"Could not {verb} {path}: {message}.")
    if error.status == 404:
        return UserError(
            f"Could not {verb} {path}: {message}; check the namespace, and that manifests/ was applied to this cluster."
        )
    if away := dead_webhook(message):
        return AwayError(
            f"Could not {verb} {path}, because {away}; see whether its controller's pods run, and run again: {message}."
        )
    if error.status in PASSING_STATUSES:
        return AwayError(f"Could not {verb} {path}: {message}; see whether the API server is well, and run again.")
    return UserError(f"The cluster refused to {verb} {path}: {message}; correct that and run again.")
