"""The code that serves: copies of a ServingRuntime, of which only the deploy step makes a model use another."""

from components.core.cluster import Cluster, ConflictError, Object
from components.core.errors import UserError
from components.core.inference_service import GROUP, RUNTIME_KIND, RUNTIME_PLURAL, RUNTIME_VERSION, runtime_copy
from components.deploy.manifest import MANAGED_BY
from components.deploy.options import KServeOptions

SERVES_LABEL = "bin-counter/serves"


class Runtimes:
    """The ServingRuntimes of the namespace that models are served in."""

    def __init__(self, cluster: Cluster, options: KServeOptions) -> None:
        self.cluster = cluster
        self.options = options
        self.path = f"/apis/{GROUP}/{RUNTIME_VERSION}/namespaces/{options.namespace}/{RUNTIME_PLURAL}"

    def copy(self) -> Object:
        """The copy that a model deployed now is to use; not made yet. Raises UserError without the original."""
        options = self.options
        original = self.cluster.get(f"{self.path}/{options.runtime}")
        if original is None:
            raise UserError(
                f"There is no {RUNTIME_KIND} {options.runtime} in namespace {options.namespace}; "
                "check the namespace, or apply manifests/ first."
            )
        copy = runtime_copy(original, options.name)
        copy["metadata"]["labels"] = MANAGED_BY | {SERVES_LABEL: options.name}
        return copy

    def make(self, copy: Object) -> None:
        """Make a copy; one that is there already is the same, because its name says what is in it."""
        try:
            self.cluster.create(self.path, copy)
        except ConflictError:
            return

    def remove_copies_but(self, names: set[str]) -> None:
        """Remove the copies that were made for the InferenceService, but for those of these names."""
        for copy in self.cluster.list(self.path, label_selector=f"{SERVES_LABEL}={self.options.name}"):
            if copy["metadata"]["name"] not in names:
                self.cluster.delete(f"{self.path}/{copy['metadata']['name']}")
