"""The TrainJobs of one namespace and their pods, on our Kubernetes client."""

from components.core.cluster import AwayError, Cluster, ConflictError, Object
from components.core.errors import UserError
from components.train_job.manifest import CONTAINER, GROUP, JOB_LABEL, NAMESPACE, PLURAL, VERSION


class Jobs:
    """What following a TrainJob takes. Methods raise AwayError for what may be tried again, UserError for a refusal."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.pods_path = f"/api/v1/namespaces/{namespace}/pods"
        self.path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"

    @classmethod
    def connect(cls) -> "Jobs":
        """Those of the namespace that manifests/train-jobs makes for them. Raises UserError without a cluster."""
        return cls(Cluster.connect("train with train_on=pod"), NAMESPACE)

    def create(self, body: Object) -> bool:
        """Create a TrainJob; False when it is there already. Raises UserError where Trainer is missing."""
        if VERSION not in self.cluster.versions(GROUP):
            raise UserError(
                f"There is no {GROUP}/{VERSION} TrainJob on this cluster; install Kubeflow Trainer 2.3, or train with "
                "train_on=pod."
            )
        try:
            self.cluster.create(self.path, body)
        except ConflictError:
            return False
        return True

    def get(self, name: str) -> Object | None:
        """The TrainJob, None when it is gone."""
        return self.cluster.get(f"{self.path}/{name}")

    def delete(self, name: str) -> None:
        """Remove a TrainJob and its pods; one that is gone is fine."""
        self.cluster.delete(f"{self.path}/{name}")

    def pods(self, name: str) -> list[Object]:
        """The pods of a TrainJob, first node first."""
        found = self.cluster.list(self.pods_path, label_selector=f"{JOB_LABEL}={name}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def log(self, pod: str) -> list[str]:
        """Lines that a pod has written so far, each behind its time; none while there is no log.

        The carriage returns of a progress bar stay inside the line: only what the kubelet put its time before is one.
        """
        try:
            return self.cluster.log(f"{self.pods_path}/{pod}", CONTAINER, timestamps="true").split("\n")
        except AwayError:
            return []
