"""How the Gateway API shares the traffic of an InferenceService: KServe's HTTPRoute, read back."""

from components.core.cluster import Cluster, Object
from components.deploy.options import KServeOptions


class Route:
    """The HTTPRoute that KServe makes for an InferenceService where it routes by the Gateway API."""

    def __init__(self, cluster: Cluster, options: KServeOptions) -> None:
        self.cluster = cluster
        self.path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{options.namespace}/httproutes/{options.name}"

    def exists(self) -> bool:
        """Whether KServe made one: the Gateway API being installed does not mean that KServe uses it."""
        return self.cluster.get(self.path) is not None

    def shares(self, service: str) -> set[int]:
        """The shares that its rules give a Service; 0 of a rule that does not name it."""
        rules: list[Object] = (self.cluster.get(self.path) or {}).get("spec", {}).get("rules") or []
        return {_weight(rule, service) for rule in rules}


def _weight(rule: Object, service: str) -> int:
    return sum(one.get("weight", 1) for one in rule.get("backendRefs") or [] if one.get("name") == service)
