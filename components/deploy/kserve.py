"""Target `kserve`: an InferenceService on a cluster, whose old version serves until the new one has proved itself.

The order is: publish (done before), a lease so that one deploy works at a time, a second InferenceService beside the
first that is asked the golden requests, a share of the traffic where wanted, then the rolling update of the first. When
anything goes wrong the first is put back. A deploy that dies leaves its lease; the next one goes on from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from components.core.cluster import Cluster
from components.core.errors import UserError
from components.core.inference_service import API_VERSION, GROUP
from components.deploy.lease import DURATION_SECONDS, held_lease
from components.deploy.options import KServeOptions
from components.deploy.rollout import Rollout
from components.deploy.target import Candidate


class KServeTarget:
    """Puts versions into service as an InferenceService."""

    name = "kserve"

    def __init__(self, options: KServeOptions, cluster: Cluster, lease_seconds: float = DURATION_SECONDS) -> None:
        self.options = options
        self.cluster = cluster
        self.lease_seconds = lease_seconds

    @contextmanager
    def rollout(self, candidate: Candidate) -> Iterator[str]:
        """Bring the candidate up in place of what serves; yields its address. What failed is undone."""
        options = self.options
        self._check_prerequisites()
        lease_name, purpose = f"{options.name}-deploy", f"version {candidate.version}"
        with held_lease(self.cluster, options.namespace, lease_name, purpose, self.lease_seconds) as lease:
            rollout = Rollout(self.cluster, options, candidate, lease)
            try:
                yield rollout.run()
            except BaseException as error:
                rollout.undo(error)
                raise
            finally:
                with suppress(UserError):  # what stays is removed by the next deploy
                    rollout.clean_up()

    def _check_prerequisites(self) -> None:
        """Raise UserError when the cluster lacks something that should have been installed before."""
        options = self.options
        versions = self.cluster.versions(GROUP)
        if API_VERSION not in versions:
            there = f"it has {', '.join(versions)}" if versions else "KServe is not installed"
            raise UserError(f"The cluster has no {GROUP}/{API_VERSION} ({there}); install KServe 0.21, see manifests/.")
        account = f"/api/v1/namespaces/{options.namespace}/serviceaccounts/{options.service_account}"
        if self.cluster.get(account) is None:
            raise UserError(
                f"There is no ServiceAccount {options.service_account} in namespace {options.namespace}; "
                "check the namespace, or apply manifests/ first."
            )
