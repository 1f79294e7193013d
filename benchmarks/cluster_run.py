"""A run on a cluster, from `make submit` to its end: time by step, memory of each pod, what KFP adds to a step.

    python -m benchmarks.cluster_run --host http://localhost:8888 SOURCE=s3://bin-source/… RECIPE=frozen
    python -m benchmarks.cluster_run --host http://localhost:8888 --run <id>     of a run that is over, without memory

Starts the run as `make submit` does and watches it by kubectl, which has to lead to the same cluster. Times are of
Kubernetes and Argo, in whole seconds. Memory is the largest working set that the kubelet's summary showed, which it
renews about every ten seconds: a step shorter than that has none. Writes results/cluster.json and results/cluster.md.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from threading import Event, Thread
from typing import Any

import httpx

from benchmarks.machine import machine
from benchmarks.tables import markdown_table, write_results

SAMPLE_SECONDS = 2.0
POD = re.compile(r"\.(?P<step>[a-z-]+?)(?P<driver>-driver)?(?:\(\d+\))?(?:\.executor)?(?:\(\d+\))?$")
COLUMNS = ("step", "in all:", "our container:", "driver:", "waiting and starting:", "peak memory:", "attempts:")


@dataclass(frozen=True)
class Pod:
    """One pod of a run: of which step, when it was made, and when its main container began and ended (Unix seconds)."""

    name: str
    step: str
    is_driver: bool
    made: float
    began: float
    ended: float


@dataclass(frozen=True)
class StepTime:
    """What a step took, in seconds: all of it, our container, KFP's driver, and the rest, which is waiting."""

    step: str
    seconds: float
    ours: float
    driver: float
    rest: float
    peak_megabytes: float
    attempts: int


class Memory:
    """The largest working set seen of every pod, sampled from the kubelets' summaries until the block ends."""

    def __init__(self) -> None:
        """Nothing is sampled yet."""
        self.peaks: dict[str, float] = {}
        self._stop = Event()
        self._thread = Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        nodes = [node["metadata"]["name"] for node in kubectl("get", "nodes")["items"]]
        while not self._stop.wait(SAMPLE_SECONDS):
            for node in nodes:
                summary = raw(f"/api/v1/nodes/{node}/proxy/stats/summary")
                for pod in summary.get("pods", []):
                    for container in pod.get("containers", []):
                        if container["name"] == "main":
                            used = container.get("memory", {}).get("workingSetBytes", 0) / 1e6
                            name = pod["podRef"]["name"]
                            self.peaks[name] = max(used, self.peaks.get(name, 0.0))


def kubectl(*words: str) -> Any:
    """What kubectl answers, as JSON. Raises SystemExit with its complaint."""
    done = subprocess.run(["kubectl", *words, "-o", "json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: kubectl {' '.join(words)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def raw(path: str) -> Any:
    """An answer of the API server, empty while it does not answer."""
    done = subprocess.run(["kubectl", "get", "--raw", path], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def pods_of(run_id: str, namespace: str) -> list[Pod]:
    """The finished pods of a run."""
    found = kubectl("get", "pods", "-n", namespace, "-l", f"pipeline/runid={run_id}")["items"]
    return [pod for item in found if (pod := read_pod(item))]


def read_pod(item: dict[str, Any]) -> Pod | None:
    """A pod out of Kubernetes' JSON; None for one that has not ended, or that belongs to no step."""
    node = item["metadata"]["annotations"].get("workflows.argoproj.io/node-name", "")
    states = {one["name"]: one["state"] for one in item["status"].get("containerStatuses", [])}
    ended = states.get("main", {}).get("terminated")
    match = POD.search(node)
    if not ended or not match:
        return None
    return Pod(
        name=item["metadata"]["name"],
        step=match["step"],
        is_driver=bool(match["driver"]),
        made=seconds(item["metadata"]["creationTimestamp"]),
        began=seconds(ended["startedAt"]),
        ended=seconds(ended["finishedAt"]),
    )


def seconds(stamp: str) -> float:
    """Unix seconds of an RFC 3339 time."""
    return datetime.fromisoformat(stamp).astimezone(UTC).timestamp()


def step_times(pods: list[Pod], peaks: dict[str, float]) -> list[StepTime]:
    """The steps that ran in a pod, in the order in which they began."""
    steps = sorted({pod.step for pod in pods if not pod.is_driver})
    times = [_step_time(step, [pod for pod in pods if pod.step == step], peaks) for step in steps]
    began = {step: min(pod.made for pod in pods if pod.step == step) for step in steps}
    return sorted(times, key=lambda one: began[one.step])


def _step_time(step: str, pods: list[Pod], peaks: dict[str, float]) -> StepTime:
    whole = max(pod.ended for pod in pods) - min(pod.made for pod in pods)
    ours = sum(pod.ended - pod.began for pod in pods if not pod.is_driver)
    driver = sum(pod.ended - pod.made for pod in pods if pod.is_driver)
    executors = [pod for pod in pods if not pod.is_driver]
    peak = max(peaks.get(pod.name, 0.0) for pod in executors)
    return StepTime(step, whole, ours, driver, whole - ours - driver, peak, len(executors))


def main() -> None:
    """Start the run or look at one, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_run", description=__doc__.splitlines()[0])
    parser.add_argument("assignments", nargs="*", metavar="NAME=value", help="parameters of the pipeline")
    parser.add_argument("--host", required=True, help="address of KFP")
    parser.add_argument("--namespace", default="kubeflow", help="where runs happen (default: kubeflow)")
    parser.add_argument("--tag", default="dev", help="tag of the images (default: dev)")
    parser.add_argument("--registry", default="", help="registry of the images")
    parser.add_argument("--run", default="", help="a run that is over; nothing is started")
    parser.add_argument("--note", default="", help="what else was running on the cluster")
    arguments = parser.parse_args()
    began = time.time()
    with Memory() as memory:
        run_id = arguments.run or started(arguments)
    whole = time.time() - began
    answer = httpx.get(f"{arguments.host}/apis/v2beta1/runs/{run_id}", timeout=30).json()
    pods = pods_of(run_id, arguments.namespace)
    if arguments.run:
        whole = seconds(answer["finished_at"]) - seconds(answer["created_at"])
    steps = step_times(pods, memory.peaks)
    node = kubectl("get", "nodes")["items"][0]["status"]["nodeInfo"]
    where = f"Kubernetes {node['kubeletVersion']}, {node['containerRuntimeVersion']}, {machine()}"
    content = {
        "date": date.today().isoformat(),
        "where": where,
        "note": arguments.note,
        "state": answer["state"],
        "seconds": whole,
        "parameters": answer.get("runtime_config", {}).get("parameters", {}),
        "steps": [asdict(step) for step in steps],
    }
    write_results("cluster", content, table(steps, whole, answer["state"], where, arguments.note))


def started(arguments: argparse.Namespace) -> str:
    """Submit, show what it prints, and return the run's id once it has ended. Raises SystemExit when none began."""
    command = [sys.executable, "-u", "-m", "pipeline", "submit", "--host", arguments.host, "--tag", arguments.tag]
    command += ["--registry", arguments.registry, *arguments.assignments]
    run_id = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            if match := re.search(r"runs/details/([0-9a-f-]{36})", line):
                run_id = match[1]
    if not run_id:
        raise SystemExit("error: no run was started")
    return run_id


def table(steps: list[StepTime], whole: float, state: str, where: str, note: str) -> list[str]:
    """The table for people."""
    ours = sum(step.ours for step in steps)
    added = sorted(step.seconds - step.ours for step in steps)
    median = added[len(added) // 2] if added else 0.0
    return [
        "# A run on a cluster (`python -m benchmarks.cluster_run`)",
        "",
        f"{date.today()}, {where}. {note}".rstrip(),
        "",
        f"From `make submit` to the end: {whole:.0f} s ({state.lower()}), of which our containers ran {ours:.0f} s.",
        f"What KFP adds to a step (driver, waiting, starting, launcher's pod): {median:.0f} s in the median.",
        "",
        *markdown_table(COLUMNS, [_cells(step) for step in steps]),
    ]


def _cells(step: StepTime) -> list[str]:
    peak = f"{step.peak_megabytes:.0f} MB" if step.peak_megabytes else "not seen"
    times = [f"{value:.0f} s" for value in (step.seconds, step.ours, step.driver, step.rest)]
    return [step.step, *times, peak, str(step.attempts)]


if __name__ == "__main__":
    main()
