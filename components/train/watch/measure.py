"""Where the time of a run goes, and what the machine does meanwhile."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from components.train.records import Use

PARTS = ("decode", "read", "copy and augment", "forward", "backward", "optimiser", "validate", "checkpoint")
# On a GPU, work runs on after the call returns; every so many steps it is waited for, to time its parts.
_GPU_INTERVAL = 20


@dataclass
class Times:
    """Seconds spent in each part of the work."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _step: int = 0

    def step(self) -> None:
        """Start of a training step."""
        self._step += 1

    @contextmanager
    def part(self, name: str, every_step: bool = True) -> Iterator[None]:
        """Add the block's time to a part. On a GPU the parts of a step are timed in some steps and scaled up."""
        sampled = self.device.type == "cuda" and not every_step
        if sampled and self._step % _GPU_INTERVAL:
            yield
            return
        if sampled:
            torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        yield
        if sampled:
            torch.cuda.synchronize(self.device)
        self.seconds[name] += (time.perf_counter() - start) * (_GPU_INTERVAL if sampled else 1)


@contextmanager
def tracing(path: Path | None) -> Iterator[Callable[[], None]]:
    """Within the block, a torch.profiler trace of steps 4 to 8 goes to `path` (Chrome's trace form); None is off.

    Yields what has to be called after every step.
    """
    if path is None:
        yield lambda: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = torch.profiler.schedule(wait=2, warmup=1, active=5, repeat=1)
    with torch.profiler.profile(
        schedule=steps, on_trace_ready=lambda profile: profile.export_chrome_trace(str(path)), profile_memory=True
    ) as profile:
        yield profile.step


class UseSampler:
    """Samples the use of CPU, memory and GPU in a thread, about every second. `with` starts and stops it."""

    def __init__(self, device: torch.device, interval: float = 1.0) -> None:
        self.device = device
        self.interval = interval
        self.samples: list[Use] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "UseSampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        process, start = psutil.Process(), time.monotonic()
        process.cpu_percent()
        while not self._stop.wait(self.interval):
            cpu = process.cpu_percent() / 100 / (psutil.cpu_count() or 1)
            self.samples.append(
                Use(time.monotonic() - start, cpu, process.memory_info().rss, self._gpu(), self._gpu_memory())
            )

    def _gpu(self) -> float | None:
        if self.device.type != "cuda":
            return None
        try:
            return torch.cuda.utilization(self.device) / 100
        except (ImportError, ModuleNotFoundError, RuntimeError):  # needs NVIDIA's management library
            return None

    def _gpu_memory(self) -> int | None:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else None
