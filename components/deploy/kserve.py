"""Target `kserve`: an InferenceService on a cluster, whose old version serves until the new one has proved itself.

The order is: publish (done before), a lease so that one deploy works at a time, a second InferenceService beside the
first that is asked the golden requests, a share of the traffic where wanted, then the rolling update of the first. When
anything goes wrong the first is put back. A deploy that dies leaves its lease; the next one goes on from there.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from components.core.cluster import Cluster, ConflictError, Object
from components.core.errors import UserError
from components.core.registry import Registry
from components.deploy import diagnosis
from components.deploy.diagnosis import State, Workload
from components.deploy.golden import check_answers
from components.deploy.lease import DURATION_SECONDS, Lease, held_lease
from components.deploy.manifest import (
    API_VERSION,
    CANARY_NAME,
    FIELD_MANAGER,
    GROUP,
    Served,
    canary_service,
    inference_service,
    served,
    served_by,
    shadow_name,
    shadow_service,
    without_model,
)
from components.deploy.options import KServeOptions
from components.deploy.target import Candidate

SETTLE_SECONDS = 30.0


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
            rollout = _Rollout(self.cluster, options, candidate, lease)
            try:
                yield rollout.run()
            except BaseException as error:
                rollout.undo(error)
                raise
            finally:
                with suppress(UserError):  # what stays is removed by the next deploy
                    rollout.remove_shadow()

    def _check_prerequisites(self) -> None:
        """Raise UserError when the cluster lacks something that should have been installed before."""
        options = self.options
        versions = self.cluster.versions(GROUP)
        if API_VERSION not in versions:
            there = f"it has {', '.join(versions)}" if versions else "KServe is not installed"
            raise UserError(f"The cluster has no {GROUP}/{API_VERSION} ({there}); install KServe 0.21, see manifests/.")
        for what, path in (
            (
                "ServingRuntime",
                f"/apis/{GROUP}/v1alpha1/namespaces/{options.namespace}/servingruntimes/{options.runtime}",
            ),
            ("ServiceAccount", f"/api/v1/namespaces/{options.namespace}/serviceaccounts/{options.service_account}"),
        ):
            if self.cluster.get(path) is None:
                raise UserError(
                    f"There is no {what} {path.rsplit('/', 1)[1]} in namespace {options.namespace}; "
                    "check the namespace, or apply manifests/ first."
                )
        splits = options.mode == "Knative" or self.cluster.versions("gateway.networking.k8s.io") != []
        if options.canary_percent and not splits:
            raise UserError(
                "canary_percent needs the Gateway API to split traffic, which this cluster does not have; "
                "install it, or leave canary_percent out."
            )


@dataclass(frozen=True)
class Origin:
    """What there was before a deploy began; the lease keeps it, so that the next deploy knows what to put back."""

    before: Served | None  # what served, None for nothing
    ours: bool  # whether there was no InferenceService, so that one that is there now is a deploy's own

    def note(self) -> str:
        """As text, to be kept with the lease."""
        return json.dumps({"before": vars(self.before) if self.before else None, "ours": self.ours})

    @classmethod
    def read(cls, note: str) -> "Origin":
        """Read it back."""
        noted = json.loads(note)
        return cls(Served(**noted["before"]) if noted["before"] else None, noted["ours"])


class _Rollout:
    """One attempt to put a candidate into service, under a lease that is held."""

    def __init__(self, cluster: Cluster, options: KServeOptions, candidate: Candidate, lease: Lease) -> None:
        self.cluster = cluster
        self.options = options
        self.candidate = candidate
        self.lease = lease
        self.model = served(candidate.version, candidate.registry.store.location)
        self.live = cluster.get(diagnosis.service_path(options, options.name))
        self.origin = _origin(self.live, lease.inherited, candidate.registry)
        self.before = self.origin.before
        # What a dead deploy left half done has to be undone even if this one fails before it changes anything.
        self.changed = self.live is not None and _half_done(self.live, self.before)

    def run(self) -> str:
        """Go through all stages; returns the address of the service. Raises UserError at the first that fails."""
        replaces = self.before and self.before.storage_uri != self.model.storage_uri
        self.lease.note(self.origin.note())
        self._check_acceptance(bool(replaces))
        if replaces:
            self._ask_beside()
            if self.options.canary_percent:
                self._share_traffic()
        self._say(f"version {self.model.version} takes over")
        self._apply(inference_service(self.options, self.model))
        self._wait(self._main(self.model), "the new version")
        url = self._address(self.options.name)
        self._check_answers(url)
        return url

    def undo(self, error: BaseException) -> None:
        """Put back what served before. Raises UserError, telling both reasons, when even that fails."""
        if not self.changed:
            return
        try:
            self.lease.check()
            if self.before is None:
                self._remove_first()
                return
            self._say(f"putting version {self.before.version or self.before.storage_uri} back")
            self._apply(inference_service(self.options, self.before))
            if isinstance(error, Exception):  # who pressed Ctrl-C does not want to wait
                self._wait(self._main(self.before), "the version before")
        except UserError as second:
            raise UserError(
                f"{str(error).rstrip('.')}; and what served before could not be confirmed to be back ({second})"
            ) from error

    def _remove_first(self) -> None:
        """Undo a first deploy: an InferenceService of ours goes, one that others made loses what we added."""
        self._say("removing what did not work")
        path = diagnosis.service_path(self.options, self.options.name)
        if self.origin.ours:
            self.cluster.delete(path)
        else:
            self.cluster.apply(path, without_model(self.options), FIELD_MANAGER)

    def remove_shadow(self) -> None:
        """Remove the second InferenceService."""
        self.lease.check()
        self.cluster.delete(diagnosis.service_path(self.options, shadow_name(self.options)))

    def _check_acceptance(self, replaces: bool) -> None:
        """Ask the API server whether it would take what will be applied later, before any time is spent."""
        path = diagnosis.service_path(self.options, self.options.name)
        later = [inference_service(self.options, self.model)]
        if self.before is not None and replaces and self.options.canary_percent:
            later.append(self._canary(self.before))
        try:
            for body in later:
                self.cluster.apply(path, body, FIELD_MANAGER, self.options.take_over, dry_run=True)
        except ConflictError as error:
            raise UserError(
                f"{str(error).rstrip('.')}; let that manager give the field up, or set the deploy option take_over."
            ) from error

    def _ask_beside(self) -> None:
        """Run the candidate as a second InferenceService without traffic, and ask it the golden requests."""
        name = shadow_name(self.options)
        self._say(f"version {self.model.version} comes up as {name}, without traffic")
        self._apply(shadow_service(self.options, self.model), name)
        self._wait(Workload(name, f"{name}-predictor", self.model.version), "the new version, beside the old one,")
        self._check_answers(self._address(name))

    def _share_traffic(self) -> None:
        """Give the candidate its share of the traffic for a while; it must stay ready and right."""
        assert self.before is not None
        options = self.options
        self._say(f"version {self.model.version} takes {options.canary_percent} % for {options.canary_seconds:.0f} s")
        self._apply(self._canary(self.before))
        standard = options.mode == "Standard"
        deployment = f"{options.name}-{CANARY_NAME}-predictor" if standard else f"{options.name}-predictor"
        workload = Workload(options.name, deployment, self.model.version)
        self._wait(workload, "the canary")
        until = time.monotonic() + options.canary_seconds
        while time.monotonic() < until:
            self.lease.check()
            state = diagnosis.look(self.cluster, options, workload, time.monotonic())
            if state.failed:
                raise UserError(
                    f"The canary failed under traffic ({state.reason}); the old version has all of it again."
                )
            time.sleep(min(options.poll_seconds, max(0.0, until - time.monotonic())))
        if standard:  # in Knative mode the canary has no address of its own
            self._check_answers(self._reachable("", deployment))  # KServe tells no address of it

    def _canary(self, stable: Served) -> Object:
        predictor = (self.live or {}).get("spec", {}).get("predictor", {})
        return canary_service(self.options, stable, self.model, predictor.get("minReplicas", 1))

    def _apply(self, body: Object, name: str | None = None) -> None:
        self.lease.check()
        self.changed = self.changed or name is None
        self.cluster.apply(
            diagnosis.service_path(self.options, name or self.options.name),
            body,
            FIELD_MANAGER,
            self.options.take_over,
        )

    def _wait(self, workload: Workload, what: str) -> None:
        """Wait until a version is up, telling what is missing as it changes. Raises UserError when it will not be."""
        since = time.monotonic()
        told = ""
        while True:
            self.lease.check()
            state = diagnosis.look(self.cluster, self.options, workload, since)
            if state.ready:
                return
            if state.reason != told:
                self._say(f"waiting for {workload.service}: {state.reason}")
                told = state.reason
            waited = time.monotonic() - since
            if state.failed or waited > self.options.ready_seconds:
                raise UserError(self._failure(workload, what, state, waited))
            time.sleep(self.options.poll_seconds)

    def _failure(self, workload: Workload, what: str, state: State, waited: float) -> str:
        warnings = diagnosis.events(self.cluster, self.options, workload)
        cause = state.reason.rstrip(". ") + (f"; events: {warnings}" if warnings else "")
        if state.failed:
            return f"InferenceService {workload.service}: {what} cannot become ready: {cause}."
        return f"InferenceService {workload.service}: {what} was not ready after {waited:.0f} s: {cause}."

    def _check_answers(self, url: str) -> None:
        info = self.candidate.registry.info(self.model.version)
        check_answers(url, self.model.version, info, self.candidate.golden, SETTLE_SECONDS)

    def _main(self, model: Served) -> Workload:
        return Workload(self.options.name, f"{self.options.name}-predictor", model.version)

    def _address(self, name: str) -> str:
        service = self.cluster.get(diagnosis.service_path(self.options, name)) or {}
        return self._reachable(service.get("status", {}).get("address", {}).get("url", ""), f"{name}-predictor")

    def _reachable(self, url: str, service: str) -> str:
        """The address to use: the user's, else the one KServe tells, else the service's name in the cluster."""
        namespace = self.options.namespace
        if self.options.address:
            return self.options.address.replace("{namespace}", namespace).replace("{service}", service).rstrip("/")
        return (url or f"http://{service}.{namespace}.svc.cluster.local").rstrip("/")

    def _say(self, text: str) -> None:
        print(f"deploy: {text}", flush=True)


def _origin(live: Object | None, inherited: str, registry: Registry) -> Origin:
    """What there was before this deploy.

    Usually that is what the InferenceService runs. But where a deploy died half-way, it may already name a version that
    never proved itself; unless that was recorded as serving, what the dead deploy found counts.
    """
    running = served_by(live) if live else None
    recorded = running is not None and running.version != "" and running.version == registry.serving()
    if live is not None and inherited and not recorded:
        return Origin.read(inherited)
    return Origin(running, ours=live is None)


def _half_done(live: Object, before: Served | None) -> bool:
    """Whether an InferenceService serves something else than `before`, or not only that."""
    spec = live.get("spec", {})
    sharing = "canary" in spec or "canaryTrafficPercent" in spec.get("predictor", {})
    return sharing or served_by(live) != before
