"""The inside of the server: a bounded queue of photos, and workers that decode and infer what waits together.

Nothing here blocks the event loop and nothing knows HTTP or gRPC. A worker does both decoding and inference: on a CPU a
batch gains little over single photos, while handing pixels from thread to thread costs.

A photo that takes much memory to decode goes into a lane of its own, from which one at a time is taken: the others pass
it, and the memory of the process stays within bounds.
"""

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from components.core.bundle import Bundle
from components.core.errors import UserError
from components.core.image_file import ImageFile, ImageRejected, read_image_file
from components.core.pixels import squash
from components.core.posterior import read_record_model
from components.core.runtime import open_runtime
from components.serve.answers import Answer, Judge, Photo
from components.serve.memory import give_back
from components.serve.metrics import BATCH_SIZE, QUEUE_LIMIT, STAGE_SECONDS, WAITING
from components.serve.refusal import Refusal, overloaded

_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_LARGE_BYTES = 64 * 1024 * 1024  # of memory while a photo is decoded; 12 megapixels need less in every format but WebP
_LARGE_SHARE = 4  # of the queue, a quarter is for large photos
_WAIT, _DECODE, _INFER = (STAGE_SECONDS.labels(stage) for stage in ("wait", "decode", "infer"))


def usable_cores(cpu_limit: Path = _CPU_LIMIT) -> int:
    """Cores that this process may use: those of its affinity, but no more than its container's CPU limit."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_limit.read_text().split()
        return min(cores, max(math.ceil(int(quota) / int(period)), 1))
    except (OSError, ValueError):  # no control groups, or "max": no limit
        return cores


@dataclass(frozen=True)
class EngineOptions:
    """How the engine works.

    `threads`: workers, and CPU threads for inference. `wait_seconds`: how long a photo waits at most for another one
    that is just being received; None means not at all on a CPU, where a larger batch gains nothing, else 2 ms.
    """

    runtime: str = "auto"
    precision: str | None = None
    threads: int = field(default_factory=usable_cores)
    max_batch: int = 4
    wait_seconds: float | None = None
    queue_limit: int = 64
    error_rate: float | None = None


@dataclass(eq=False)
class _Request:
    """Photos that came together and are answered together."""

    photos: list[Photo]
    future: "asyncio.Future[list[Answer]]"
    loop: asyncio.AbstractEventLoop
    answers: list[Answer | None]
    missing: int

    def settle(self, index: int, result: Answer | Exception) -> None:
        """Called in the event loop."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
            return
        self.answers[index] = result
        self.missing -= 1
        if not self.missing:
            self.future.set_result([answer for answer in self.answers if answer is not None])


@dataclass(frozen=True)
class _Job:
    """One photo of a request; with `file` where it is known to be large."""

    request: _Request
    index: int
    arrived: float
    file: ImageFile | None = None

    @property
    def photo(self) -> Photo:
        return self.request.photos[self.index]

    def refused(self, status: int, reason: str, message: str) -> Refusal:
        """A refusal that says which photo it is about."""
        number = len(self.request.photos)
        text = f"Photo {self.index + 1} of {number}: {message}" if number > 1 else message
        return Refusal(status, reason, text, retry_after=1 if status == 503 else None)


_Settled = list[tuple[_Job, Answer | Exception]]


class Engine:
    """Counts photos of one bundle. `count` is for the event loop; workers run until `close`."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        self.options = options
        self._size = bundle.info.image_size
        self._judge = Judge(read_record_model(bundle), options.error_rate)
        self._waiting: deque[_Job] = deque()
        self._large: deque[_Job] = deque()
        self._large_runs = self._large_was_last = False
        self._changed = threading.Condition()
        self._closed = False
        self._receiving = 0  # requests whose body is still being read: company worth waiting for
        self._busy = 0  # workers that have photos
        # One core a worker gets most out of a busy machine. A photo that is alone gets all cores, and is done sooner.
        self.runtime = self._alone = open_runtime(
            bundle, options.runtime, options.precision, threads=options.threads, streams=options.threads
        )
        if self.runtime.name == "openvino" and options.threads > 1:
            self._alone = open_runtime(bundle, "openvino", options.precision, threads=options.threads)
        QUEUE_LIMIT.set(options.queue_limit)
        self._wait_seconds = options.wait_seconds
        if self._wait_seconds is None:
            self._wait_seconds = 0.0 if self.runtime.name == "openvino" else 0.002
        self._workers = [
            threading.Thread(target=self._work, name=f"count-{number}", daemon=True)
            for number in range(options.threads)
        ]
        self._warm = threading.Barrier(options.threads + 1)
        self._warm_up_error: Exception | None = None

    def start(self) -> None:
        """Warm every worker up, then let them take photos. Returns when all are warm. Raises UserError."""
        for worker in self._workers:
            worker.start()
        try:
            self._warm.wait()
        except threading.BrokenBarrierError as error:
            raise UserError(f"The model cannot be run ({self._warm_up_error}); train or fetch it again.") from error

    def close(self, seconds: float | None = None) -> bool:
        """Let the workers finish what waits, then end them; False when they did not within the time given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = None if seconds is None else time.monotonic() + seconds
        for worker in self._workers:
            worker.join(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        return not any(worker.is_alive() for worker in self._workers)

    @property
    def is_full(self) -> bool:
        """Whether a request would be refused now."""
        return len(self._waiting) + len(self._large) >= self.options.queue_limit

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Say that a request is being received, for as long as the block lasts."""
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1

    async def count(self, photos: list[Photo]) -> list[Answer]:
        """Count photos. Raises Refusal when the queue is full or a photo cannot be read.

        Photos of a caller that is cancelled leave the queue.
        """
        loop = asyncio.get_running_loop()
        request = _Request(photos, loop.create_future(), loop, [None] * len(photos), len(photos))
        now = time.perf_counter()
        with self._changed:
            if self._closed or len(self._waiting) + len(self._large) + len(photos) > self.options.queue_limit:
                raise overloaded()
            self._waiting.extend(_Job(request, index, now) for index in range(len(photos)))
            self._changed.notify(min(len(photos), len(self._workers)))
            self._tell_waiting()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._drop(request)
            raise

    def _drop(self, request: _Request) -> None:
        with self._changed:
            for lane in (self._waiting, self._large):
                kept = [job for job in lane if job.request is not request]
                lane.clear()
                lane.extend(kept)
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        WAITING.set(len(self._waiting) + len(self._large))

    def _work(self) -> None:
        try:
            for number in (1, self.options.max_batch):
                self.runtime.predict(np.zeros((number, self._size, self._size, 3), np.uint8))
            self._alone.predict(np.zeros((1, self._size, self._size, 3), np.uint8))
            self._warm.wait()
        except threading.BrokenBarrierError:
            return  # another worker could not warm up
        except Exception as error:  # whatever the runtime raises: `start` reports it
            self._warm_up_error = error
            self._warm.abort()
            return
        while (jobs := self._take()) is not None:
            try:
                settled = self._run(jobs)
            except Exception as error:  # a worker must outlive whatever goes wrong in one batch
                settled = [(job, error) for job in jobs]
            if jobs[0].file is not None:
                give_back()
            with self._changed:
                self._busy -= 1
                if jobs[0].file is not None:
                    self._large_runs = False
                    self._changed.notify()
            by_loop: dict[asyncio.AbstractEventLoop, _Settled] = {}
            for job, result in settled:
                by_loop.setdefault(job.request.loop, []).append((job, result))
            for loop, results in by_loop.items():
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, results)

    def _take(self) -> list[_Job] | None:
        """The next photos: what waits, shared fairly among the workers. None when the engine is closed."""
        with self._changed:
            while not self._waiting and not self._may_take_large():
                if self._closed and not self._large:
                    return None
                self._changed.wait()
            if self._may_take_large() and not (self._waiting and self._large_was_last and len(self._workers) == 1):
                jobs = [self._large.popleft()]
                self._large_runs = self._large_was_last = True
            else:
                self._wait_for_company()
                share = -(-len(self._waiting) // len(self._workers))
                jobs = [self._waiting.popleft() for _ in range(min(share, self.options.max_batch))]
                self._large_was_last = False
            self._busy += 1
            self._tell_waiting()
        return jobs

    def _may_take_large(self) -> bool:
        return bool(self._large) and not self._large_runs

    def _wait_for_company(self) -> None:
        """Wait, no longer than was asked for, while a request is on its way and there is room for it in the batch."""
        while self._receiving and 0 < len(self._waiting) < self.options.max_batch:
            left = self._waiting[0].arrived + (self._wait_seconds or 0.0) - time.perf_counter()
            if left <= 0:
                return
            self._changed.wait(left)

    def _run(self, jobs: list[_Job]) -> _Settled:
        settled: _Settled = []
        good: list[_Job] = []
        pixels = []
        for job in jobs:
            if job.request.future.done():  # its caller went away, or another of its photos was refused
                continue
            started = time.perf_counter()
            if job.file is None:
                _WAIT.observe(started - job.arrived)
            try:
                file = job.file or read_image_file(job.photo.data)
                if job.file is None and file.memory > _LARGE_BYTES:
                    self._put_aside(job, file)
                    continue
                pixels.append(squash(file, self._size))
                good.append(job)
            except ImageRejected as error:
                settled.append((job, job.refused(400, error.reason, error.message)))
            except Refusal as refusal:
                settled.append((job, refusal))
            _DECODE.observe(time.perf_counter() - started)
        if good:
            started = time.perf_counter()
            alone = len(good) == 1 and self._busy == 1 and not self._waiting
            prediction = (self._alone if alone else self.runtime).predict(np.stack(pixels))
            _INFER.observe(time.perf_counter() - started)
            BATCH_SIZE.observe(len(good))
            answers = self._judge.answers(prediction, [job.photo.record for job in good])
            settled.extend(zip(good, answers, strict=True))
        return settled

    def _put_aside(self, job: _Job, file: ImageFile) -> None:
        """Let a photo wait in the lane of the large ones. Raises Refusal when that is full."""
        with self._changed:
            if len(self._large) * _LARGE_SHARE >= self.options.queue_limit:
                message = "The server has as many large photos waiting as it takes; try again in a second."
                raise job.refused(503, "overloaded", message)
            self._large.append(_Job(job.request, job.index, job.arrived, file))
            self._changed.notify()


def _settle(results: _Settled) -> None:
    for job, result in results:
        job.request.settle(job.index, result)
