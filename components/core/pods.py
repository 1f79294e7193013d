"""What a pod's status says of why it does not run."""

from collections.abc import Iterator

from components.core.cluster import Object

FIRST_FAILED_PULL = "ErrImagePull"  # followed by another try; from then on it is ImagePullBackOff
# Reasons of a waiting container that rarely mend themselves.
CANNOT_START = (
    FIRST_FAILED_PULL,
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "RunContainerError",
)


def condition(thing: Object, kind: str) -> Object:
    """One of the status conditions of an object, empty when it is not there."""
    found = [one for one in thing.get("status", {}).get("conditions") or [] if one.get("type") == kind]
    return found[0] if found else {}


def container_states(pod: Object) -> list[Object]:
    """The statuses of all containers of a pod, those that run before the others first."""
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def unschedulable(pod: Object) -> str | None:
    """Why no node takes the pod, None where one did or was not looked for yet."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("reason") != "Unschedulable":
        return None
    return str(scheduled.get("message") or "the scheduler says no more").rstrip(".")


def waiting_for(container: Object) -> tuple[str, str]:
    """Reason and message of a container that waits, both empty for one that does not."""
    waiting = container.get("state", {}).get("waiting") or {}
    return waiting.get("reason") or "", (waiting.get("message") or "").rstrip(".")


def cannot_start(pod: Object) -> Iterator[tuple[Object, str, str]]:
    """The containers that wait for something that rarely comes, each with reason and message."""
    for container in container_states(pod):
        reason, message = waiting_for(container)
        if reason in CANNOT_START:
            yield container, reason, message
