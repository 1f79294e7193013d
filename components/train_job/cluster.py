"""The few calls to the Kubernetes API that following a TrainJob takes, with refusals as sentences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from components.core.errors import UserError
from components.train_job.manifest import CONTAINER, GROUP, JOB_LABEL, PLURAL, VERSION, Object

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_SECONDS = (5, 30)
T = TypeVar("T")


class PassingError(Exception):
    """The API server did not answer, or asked to come back later."""


class Cluster:
    """One namespace of a cluster. Methods raise UserError for a refusal, PassingError for what may be tried again."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._jobs = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    @classmethod
    def connect(cls) -> "Cluster":
        """The cluster and the namespace that this pod runs in. Raises UserError outside a pod."""
        try:
            config.load_incluster_config()
            return cls(client.ApiClient(), NAMESPACE_FILE.read_text().strip())
        except (ConfigException, OSError) as error:
            raise UserError(
                "train_on=trainjob works only in a pod on a cluster; on this machine train with train_on=pod."
            ) from error

    def create(self, body: Object) -> bool:
        """Create a TrainJob; False when it is there already."""
        try:
            self._call(
                "create TrainJobs",
                lambda: self._jobs.create_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, body, _request_timeout=TIMEOUT_SECONDS
                ),
            )
        except ApiException as error:
            if error.status != 409:
                raise
            return False
        return True

    def job(self, name: str) -> Object | None:
        """The TrainJob, None when it is gone."""
        try:
            return self._call(
                "read TrainJobs",
                lambda: self._jobs.get_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=TIMEOUT_SECONDS
                ),
            )
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def delete(self, name: str) -> None:
        """Remove a TrainJob and its pods; one that is gone is fine."""
        try:
            self._call(
                "delete TrainJobs",
                lambda: self._jobs.delete_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=TIMEOUT_SECONDS
                ),
            )
        except ApiException as error:
            if error.status != 404:
                raise

    def pods(self, name: str) -> list[Any]:
        """The pods of a TrainJob, first node first."""
        listed = self._call(
            "list pods",
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{JOB_LABEL}={name}", _request_timeout=TIMEOUT_SECONDS
            ),
        )
        return sorted(listed.items, key=lambda pod: pod.metadata.name)

    def log(self, pod: str) -> list[str]:
        """Lines that a pod has written so far, each behind its time; none while there is no log."""
        try:
            text = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=CONTAINER, timestamps=True, _request_timeout=TIMEOUT_SECONDS
            )
        except (ApiException, urllib3.exceptions.HTTPError):
            return []
        return str(text or "").splitlines()

    def _call(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except urllib3.exceptions.HTTPError as error:
            raise PassingError(f"the Kubernetes API does not answer ({type(error).__name__})") from error
        except ApiException as error:
            if error.status in (429, 500, 502, 503, 504):
                raise PassingError(f"the Kubernetes API answered {error.status}") from error
            if error.status in (401, 403):
                raise UserError(
                    f"The steps' service account may not {doing} in namespace {self.namespace}; apply the role "
                    "bin-counter-train-job of manifests/ there."
                ) from error
            if error.status == 404 and doing.startswith("create"):
                raise UserError(
                    f"There is no {GROUP}/{VERSION} TrainJob on this cluster, or no namespace {self.namespace}; "
                    "install Kubeflow Trainer 2.3, or train with train_on=pod."
                ) from error
            if error.status in (400, 422):
                raise UserError(
                    f"The cluster refused the TrainJob ({_message(error)}); this code is written for Kubeflow Trainer "
                    "2.3, and wants the ClusterTrainingRuntime of manifests/."
                ) from error
            raise


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"]).rstrip(".")[:300]
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
