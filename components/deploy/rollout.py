"""One attempt to put a version into service on a cluster, stage by stage, and what undoes it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from components.core.cluster import Cluster, ConflictError, Object
from components.core.errors import UserError
from components.core.inference_service import Served, served
from components.core.registry import Registry
from components.deploy.diagnosis import Observer, State, Workload, service_path
from components.deploy.golden import check_answers
from components.deploy.lease import Lease
from components.deploy.manifest import (
    FIELD_MANAGER,
    canary_of,
    canary_predictor_name,
    canary_service,
    inference_service,
    predictor_name,
    served_by,
    shadow_name,
    shadow_service,
    without_model,
)
from components.deploy.options import KServeOptions
from components.deploy.owners import owners
from components.deploy.routes import Route
from components.deploy.runtimes import Runtimes
from components.deploy.target import Candidate

SETTLE_SECONDS = 30.0
ROUTE_SECONDS = 60.0  # for KServe to write a share into the HTTPRoute


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


class Rollout:
    """One attempt to put a candidate into service, under a lease that is held."""

    def __init__(self, cluster: Cluster, options: KServeOptions, candidate: Candidate, lease: Lease) -> None:
        self.cluster = cluster
        self.options = options
        self.candidate = candidate
        self.lease = lease
        self.runtimes = Runtimes(cluster, options)
        self.runtime = self.runtimes.copy()
        models_uri = str(candidate.registry.store.location)
        self.model = served(candidate.version, models_uri, options.storage_uri).on(self.runtime["metadata"]["name"])
        self.route = Route(cluster, options)
        self.path = service_path(options, options.name)
        live = cluster.get(self.path)
        self.live = None if _ending(live) else live
        self.origin = _origin(self.live, lease.inherited, candidate.registry)
        self.before = self.origin.before
        # What a dead deploy left half done has to be undone even if this one fails before it changes anything.
        self.changed = self.live is not None and _half_done(self.live, self.before)

    def run(self) -> str:
        """Go through all stages; returns the address of the service. Raises UserError at the first that fails."""
        replaces = self.before is not None and self.before != self.model
        self.lease.note(self.origin.note())
        self._check_acceptance(replaces)
        self.runtimes.make(self.runtime)
        if replaces:
            self._end_a_share_that_was_left()
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
            self._end_share()
            self._apply(inference_service(self.options, self.before))
            if isinstance(error, Exception):  # who pressed Ctrl-C does not want to wait
                self._wait(self._main(self.before), "the version before")
        except UserError as second:
            raise UserError(
                f"{str(error).rstrip('.')}; and what served before could not be confirmed to be back ({second})"
            ) from error

    def clean_up(self) -> None:
        """Remove the second InferenceService, and copies of the runtime that nothing uses any more."""
        self.lease.check()
        self.cluster.delete(service_path(self.options, shadow_name(self.options)))
        live = self.cluster.get(self.path) or {}
        live = {} if _ending(live) else live
        used = [self.before, served_by(live), canary_of(live)]
        self.runtimes.remove_copies_but({model.runtime for model in used if model})

    def _remove_first(self) -> None:
        """Undo a first deploy: an InferenceService of ours goes, one that others made loses what we added."""
        self._say("removing what did not work")
        if self.origin.ours:
            self.cluster.delete(self.path)
        else:
            self.cluster.apply(self.path, without_model(self.options), FIELD_MANAGER)

    def _check_acceptance(self, replaces: bool) -> None:
        """Ask the API server whether it would take what will be applied later, before any time is spent."""
        options = self.options
        later = [inference_service(options, self.model)]
        if self.before is not None and replaces and options.canary_percent:
            if options.mode == "Standard" and not self.route.exists():
                raise UserError(
                    f"canary_percent needs traffic to be shared, but KServe made no HTTPRoute for {options.name}: it "
                    "does not use the Gateway API here (enableGatewayApi in its configuration); switch that on, or "
                    "leave canary_percent out."
                )
            later.append(self._canary(self.before, self.model, options.canary_percent))
        try:
            for body in later:
                self.cluster.apply(self.path, body, FIELD_MANAGER, options.take_over, dry_run=True)
        except ConflictError as error:
            raise UserError(self._conflict(str(error))) from error

    def _conflict(self, message: str) -> str:
        """Whose the InferenceService is that we may not change, and what to do."""
        others = owners(self.live or {}, FIELD_MANAGER) if ".spec.predictor.model." in message else []
        if not others or self.live is None:
            return f"{message.rstrip('.')}; let that manager give the field up, or set the deploy option take_over."
        runs = served_by(self.live)
        return (
            f"The InferenceService {self.options.name} is kept by {' and '.join(others)}, which says that it serves "
            f"{(runs and (runs.version or runs.storage_uri)) or 'nothing'}; version {self.model.version} is published, "
            f"so name it there (make manifests VERSION={self.model.version}), or set the deploy option take_over "
            f"({message.rstrip('.')})."
        )

    def _ask_beside(self) -> None:
        """Run the candidate as a second InferenceService without traffic, and ask it the golden requests."""
        name = shadow_name(self.options)
        self._say(f"version {self.model.version} comes up as {name}, without traffic")
        self._apply(shadow_service(self.options, self.model), name)
        self._wait(Workload(name, predictor_name(name), self.model), "the new version, beside the old one,")
        self._check_answers(self._address(name))

    def _share_traffic(self) -> None:
        """Give the candidate its share of the traffic for a while; it must stay ready and right."""
        assert self.before is not None
        options = self.options
        self._say(f"version {self.model.version} takes {options.canary_percent} % for {options.canary_seconds:.0f} s")
        self._apply(self._canary(self.before, self.model, options.canary_percent))
        standard = options.mode == "Standard"
        deployment = canary_predictor_name(options) if standard else predictor_name(options.name)
        workload = Workload(options.name, deployment, self.model)
        self._wait(workload, "the canary")
        if standard:
            self._wait_for_share(options.canary_percent)
        observer = Observer(self.cluster, options, workload)
        for _ in self._while_waiting(options.canary_seconds):
            state = observer.look()
            if state.failed:
                raise UserError(
                    f"The canary failed under traffic ({state.reason}); the old version has all of it again."
                )
        if standard:  # in Knative mode the canary has no address of its own
            self._check_answers(self._reachable("", deployment))  # KServe tells no address of it
            self._end_share()

    def _end_a_share_that_was_left(self) -> None:
        """Take back the share of a canary that a dead deploy left: it never proved itself."""
        assert self.before is not None
        if self.live is not None and _sharing(self.live):
            self._end_share()
            self._apply(inference_service(self.options, self.before))

    def _end_share(self) -> None:
        """Take a canary's share and wait until gateways know, before it goes or the new version takes over.

        KServe deletes the Service of a canary that is gone from the spec before it changes the HTTPRoute.
        """
        service = canary_predictor_name(self.options)
        live = self.cluster.get(self.path) or {}
        stable, canary = served_by(live), canary_of(live)
        if stable is None or canary is None or self.route.shares(service) <= {0}:
            return
        self._apply(self._canary(stable, canary, 0))
        for _ in self._while_waiting(ROUTE_SECONDS):
            if self.route.shares(service) <= {0}:
                break
        for _ in self._while_waiting(self.options.drain_seconds):
            pass

    def _wait_for_share(self, percent: int) -> None:
        """Wait until the HTTPRoute gives the canary its share. Raises UserError when KServe does not write it."""
        service = canary_predictor_name(self.options)
        for _ in self._while_waiting(ROUTE_SECONDS):
            if self.route.shares(service) == {percent}:
                return
        raise UserError(
            f"The canary gets no traffic: after {ROUTE_SECONDS:.0f} s the HTTPRoute {self.options.name} still gives "
            f"{service} {sorted(self.route.shares(service))} % instead of {percent}; look at KServe's controller, or "
            "leave canary_percent out."
        )

    def _canary(self, stable: Served, canary: Served, percent: int) -> Object:
        predictor = (self.live or {}).get("spec", {}).get("predictor", {})
        return canary_service(self.options, stable, canary, percent, predictor.get("minReplicas", 1))

    def _apply(self, body: Object, name: str | None = None) -> None:
        path = service_path(self.options, name or self.options.name)
        for _ in self._while_waiting(self.options.ready_seconds):
            # What a deploy just before this one removed stays for a moment, and would take what is applied with it.
            if not _ending(self.cluster.get(path)):
                break
        self.lease.check()
        self.changed = self.changed or name is None
        self.cluster.apply(path, body, FIELD_MANAGER, self.options.take_over)

    def _wait(self, workload: Workload, what: str) -> None:
        """Wait until a version is up, telling what is missing as it changes. Raises UserError when it will not be."""
        observer = Observer(self.cluster, self.options, workload)
        told = ""
        for _ in self._while_waiting(self.options.ready_seconds):
            state = observer.look()
            if state.ready:
                return
            if state.reason != told:
                self._say(f"waiting for {workload.service}: {state.reason}")
                told = state.reason
            if state.failed:
                break
        raise UserError(self._failure(observer, what, state))

    def _while_waiting(self, seconds: float) -> Iterator[None]:
        """Yield at every look, at least once, until so many seconds are over or the lease is lost."""
        until = time.monotonic() + seconds
        while True:
            self.lease.check()
            yield
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(self.options.poll_seconds, left))

    def _failure(self, observer: Observer, what: str, state: State) -> str:
        warnings = observer.warnings()
        service = observer.workload.service
        cause = state.reason.rstrip(". ") + (f"; events: {warnings}" if warnings else "")
        if state.failed:
            return f"InferenceService {service}: {what} cannot become ready: {cause}."
        return f"InferenceService {service}: {what} was not ready after {self.options.ready_seconds:.0f} s: {cause}."

    def _check_answers(self, url: str) -> None:
        info = self.candidate.registry.info(self.model.version)
        check_answers(url, self.model.version, info, self.candidate.golden, SETTLE_SECONDS)

    def _main(self, model: Served) -> Workload:
        return Workload(self.options.name, predictor_name(self.options.name), model)

    def _address(self, name: str) -> str:
        service = self.cluster.get(service_path(self.options, name)) or {}
        return self._reachable(service.get("status", {}).get("address", {}).get("url", ""), predictor_name(name))

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


def _ending(service: Object | None) -> bool:
    """Whether an InferenceService was deleted and KServe's finaliser still keeps it."""
    return "deletionTimestamp" in (service or {}).get("metadata", {})


def _half_done(live: Object, before: Served | None) -> bool:
    """Whether an InferenceService serves something else than `before`, or not only that."""
    return _sharing(live) or served_by(live) != before


def _sharing(live: Object) -> bool:
    """Whether a canary has a share of the traffic, or is about to."""
    spec = live.get("spec", {})
    return bool(spec.get("canary")) or "canaryTrafficPercent" in spec.get("predictor", {})
