"""One deploy at a time: a Kubernetes Lease that the one at work holds and renews.

It also keeps a note of what served before. A deploy that dies leaves lease and note behind for the next to pick up.
"""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from components.core.cluster import Cluster, ConflictError, Object
from components.core.errors import UserError

DURATION_SECONDS = 60.0
RENEWALS = 4  # within one duration
LOOKS = 30  # within one duration, at a lease that another one holds
NOTE = "bin-counter/replaces"


class Lease:
    """A lease that we hold. `inherited` is the note of a deploy that died holding it, "" for none."""

    def __init__(
        self, cluster: Cluster, path: str, body: Object, duration: float, inherited: str, renewed: float
    ) -> None:
        self.cluster = cluster
        self.path = path
        self.duration = duration
        self.inherited = inherited
        self._body = body
        self._renewed = renewed  # when the last write that succeeded was sent
        self._lost = ""
        self._lock = threading.Lock()
        self._done = threading.Event()

    def check(self) -> None:
        """To be called before every step that changes something. Raises UserError when the lease is not ours any more.

        That is so from the moment it ran out, because then another deploy may take it.
        """
        if not self._lost and _now() - self._renewed > self.duration:
            self._lost = f"its lease could not be renewed for {self.duration:.0f} s"
        if self._lost:
            raise UserError(f"This deploy stops, because {self._lost}; run again, which goes on where this stopped.")

    def note(self, text: str) -> None:
        """Keep a note with the lease. Raises UserError when that fails."""
        self._write({}, {NOTE: text})
        self.check()

    def renew_until_released(self) -> None:
        """Renew a few times within the duration (in a thread of its own)."""
        while not self._done.wait(self.duration / RENEWALS) and not self._lost:
            with suppress(UserError):  # check() tells when it was too often
                self._write({}, {})

    def release(self) -> None:
        """Give it back without a note; a lease that was lost is left alone. Raises UserError when that fails."""
        self._done.set()
        if not self._lost:
            self._write({"holderIdentity": ""}, {NOTE: ""})

    def _write(self, spec: Object, annotations: Object) -> None:
        with self._lock:
            holder = self._body["spec"]["holderIdentity"]
            for _ in range(2):
                sent = _now()
                fresh = _with(self._body, spec | {"renewTime": _wall_clock()}, annotations)
                try:
                    self._body = self.cluster.replace(self.path, fresh)
                    self._renewed = sent
                    return
                except ConflictError:
                    # A write whose answer was lost has changed the resourceVersion; anyone else has changed the holder.
                    self._body = self.cluster.get(self.path) or fresh
                    if self._body["spec"].get("holderIdentity") != holder:
                        break
            self._lost = "another deploy took over"


@contextmanager
def held_lease(
    cluster: Cluster, namespace: str, name: str, purpose: str, duration: float = DURATION_SECONDS
) -> Iterator[Lease]:
    """Hold the lease for the length of the block. Raises UserError when another deploy holds it.

    One that is not renewed for its duration while we watch belongs to a deploy that died, and is taken over. How long
    that took is measured by our own clock alone: times that others wrote are compared with each other only.
    `purpose` is shown to others, for example "version 3f2a91c04d5e".
    """
    collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    path = f"{collection}/{name}"
    spec = {
        "holderIdentity": f"{socket.gethostname()}/{uuid.uuid4().hex[:8]} for {purpose}",
        "leaseDurationSeconds": max(1, round(duration)),
        "acquireTime": _wall_clock(),
        "renewTime": _wall_clock(),
    }
    lease = _acquire(cluster, collection, path, name, spec, duration)
    thread = threading.Thread(target=lease.renew_until_released, daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        with suppress(UserError):  # not renewed any more, it runs out by itself
            lease.release()
        thread.join()


def _acquire(cluster: Cluster, collection: str, path: str, name: str, spec: Object, duration: float) -> Lease:
    found = cluster.get(path)
    inherited = ""
    try:
        if found is None:
            metadata = {"name": name}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            sent = _now()
            taken = cluster.create(collection, body)
        else:
            if found["spec"].get("holderIdentity"):
                _watch_until_abandoned(cluster, path, found)
            inherited = found["metadata"].get("annotations", {}).get(NOTE, "")
            sent = _now()
            taken = cluster.replace(path, _with(found, spec | {"renewTime": _wall_clock()}, {}))
    except ConflictError as error:
        there = cluster.get(path)
        winner = there["spec"].get("holderIdentity") if there else None
        if there is None or winner != spec["holderIdentity"]:
            raise UserError(
                f"Another deploy is under way ({winner or 'just ended'}), so this one stops; wait until it has ended "
                "and run again."
            ) from error
        taken = there  # it was our own write, whose answer was lost
    return Lease(cluster, path, taken, duration, inherited, sent)


def _watch_until_abandoned(cluster: Cluster, path: str, found: Object) -> None:
    """Return when a lease was left as it is for its whole duration. Raises ConflictError when anyone wrote to it."""
    duration = found["spec"].get("leaseDurationSeconds", 0)
    print(
        f"deploy: {found['spec']['holderIdentity']} began before; waiting up to {duration} s to see whether it is "
        "still at work",
        flush=True,
    )
    until = _now() + duration
    while (left := until - _now()) > 0:
        time.sleep(min(left, duration / LOOKS))
        there = cluster.get(path)
        if there is None or there["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise ConflictError("held")


def _with(body: Object, spec: Object, annotations: Object) -> Object:
    metadata = body["metadata"] | {"annotations": body["metadata"].get("annotations", {}) | annotations}
    return body | {"metadata": metadata, "spec": body["spec"] | spec}


def _wall_clock() -> str:
    """The time as Kubernetes writes it, for people to read."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    """Seconds of a clock that nobody sets; where the system has one, it also counts while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
