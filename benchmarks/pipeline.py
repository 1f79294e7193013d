"""The main job on one machine: how long it takes, how much memory, what a second run re-does. `make bench-pipeline`."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
from kfp import dsl, local

from benchmarks.machine import machine
from benchmarks.tables import RESULTS, markdown_table, told, write_results

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT.parent / "shared" / "abid"
# Seconds, and gigabytes or 0 for none.
GOALS = {"drawn bins, first run": (240, 4), "10,000 real photos": (600, 0)}
SAMPLE_SECONDS = 5.0  # adding up shared pages walks every page table, which costs the run time


COLUMNS = (
    "run",
    "time",
    "peak memory",
    "steps executed",
    "accuracy (95 % interval)",
    "baseline",
    "within one",
    "RMSE",
)


@dataclass(frozen=True)
class Run:
    """One run of the DAG: seconds of wall time, peak memory of all its processes, what it executed, its figures."""

    name: str
    command: str
    seconds: float
    peak_gigabytes: float
    executed: list[str]
    accuracy: float
    accuracy_ci95: tuple[float, float]
    baseline_accuracy: float
    within_one: float
    rmse: float
    n_test: int


class PeakMemory:
    """Peak of the summed memory of a process and all its descendants, shared pages counted once (PSS)."""

    def __init__(self, process: psutil.Process) -> None:
        self.process = process
        self.peak = 0

    @contextmanager
    def sampled(self) -> Iterator["PeakMemory"]:
        """Sample in the background for the length of the block."""
        done = Event()
        thread = Thread(target=self._sample, args=(done,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()

    def _sample(self, done: Event) -> None:
        while not done.wait(SAMPLE_SECONDS):
            total = 0
            try:
                for each in [self.process, *self.process.children(recursive=True)]:
                    try:
                        total += each.memory_full_info().pss
                    except psutil.Error:
                        continue
            except psutil.NoSuchProcess:
                return
            self.peak = max(self.peak, total)


def measure(name: str, home: Path, *assignments: str) -> Run:
    """Run the DAG once as a user would. Raises SystemExit with its output when it fails."""
    command = [sys.executable, "-m", "pipeline", "run", *assignments]
    print(f"{name}: make pipeline {' '.join(assignments)}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "BIN_COUNTER_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with PeakMemory(psutil.Process(process.pid)).sampled() as memory:
        output = process.communicate()[0]
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{output}\n{name} failed with status {process.returncode}")
    metrics = json.loads((home / "latest" / "metrics.json").read_text())
    run = Run(
        name=name,
        command=" ".join(["make pipeline", *assignments]),
        seconds=round(seconds, 1),
        peak_gigabytes=round(memory.peak / 1e9, 2),
        executed=re.findall(r"^▶ (\w+)$", output, re.MULTILINE),
        **{key: metrics[key] for key in Run.__annotations__ if key in metrics},
    )
    print(
        f"  {run.seconds} s, {run.peak_gigabytes} GB, {len(run.executed)} steps, accuracy {run.accuracy:.3f}",
        flush=True,
    )
    return run


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def no_work() -> None:
    """Do nothing: what is left is the orchestrator's own time."""


def step_overhead(repeats: int = 5) -> float:
    """Median seconds of a step without work under kfp.local's SubprocessRunner."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
        for _ in range(repeats):
            began = time.monotonic()
            no_work()
            times.append(time.monotonic() - began)
    return sorted(times)[repeats // 2]


def table(runs: list[Run], overhead: float) -> list[str]:
    """The Markdown table for people."""
    lines = [
        "# The main job on one machine (`make bench-pipeline`)",
        "",
        f"{machine()}, {time.strftime('%Y-%m-%d')}. Time and memory of the whole run, all processes.",
        "",
        *markdown_table(COLUMNS, [_cells(run) for run in runs]),
    ]
    for run in runs:
        if run.name in GOALS:
            seconds, gigabytes = GOALS[run.name]
            met = told(run.seconds <= seconds)
            lines += ["", f"{run.name}: goal {seconds} s, {met}."]
            if gigabytes:
                lines[-1] += f" Goal {gigabytes} GB, {told(run.peak_gigabytes <= gigabytes)}."
    lines += ["", f"A step without work takes {overhead:.2f} s (median of 5; goal: below 2 s).", ""]
    return lines


def _cells(run: Run) -> list[str]:
    low, high = run.accuracy_ci95
    return [
        f"{run.name}: `{run.command}`",
        f"{run.seconds:.0f} s",
        f"{run.peak_gigabytes:.1f} GB",
        ", ".join(run.executed),
        f"{run.accuracy:.1%} ({low:.1%} to {high:.1%}), {run.n_test} bins",
        f"{run.baseline_accuracy:.1%}",
        f"{run.within_one:.1%}",
        f"{run.rmse:.2f}",
    ]


def rows(folder: Path, sample: Path) -> dict[str, Callable[[], Run]]:
    """Every run by its name; `the same again` and `other epochs` build on the first."""
    home = folder / "generated"
    source = os.path.relpath(sample, ROOT)
    return {
        "drawn bins, first run": lambda: measure("drawn bins, first run", home),
        "the same again": lambda: measure("the same again", home),
        "other epochs": lambda: measure("other epochs", home, "EPOCHS=1"),
        "10,000 real photos": lambda: measure(
            "10,000 real photos", folder / "real", f"SOURCE={source}", "RECIPE=frozen"
        ),
    }


def main() -> None:
    """Run the rows and write benchmarks/results/pipeline.json and .md after each; rows not run keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=Path, default=SAMPLE, help="folder of the real sample; left out if absent")
    parser.add_argument("--row", action="append", help="run only the rows whose name has this in it")
    arguments = parser.parse_args()
    kept = RESULTS / "pipeline.json"
    runs = {run["name"]: Run(**run) for run in json.loads(kept.read_text())["runs"]} if kept.exists() else {}
    overhead = step_overhead()
    with tempfile.TemporaryDirectory() as folder:
        for name, row in rows(Path(folder), arguments.sample).items():
            wanted = not arguments.row or any(word in name for word in arguments.row)
            if not wanted or ("real" in name and not arguments.sample.is_dir()):
                continue
            runs[name] = row()
            record = {
                "machine": machine(),
                "date": time.strftime("%Y-%m-%d"),
                "step_overhead_seconds": round(overhead, 3),
                "runs": [asdict(run) for run in runs.values()],
            }
            write_results("pipeline", record, table(list(runs.values()), overhead))


if __name__ == "__main__":
    main()
