"""What the server counts about itself, for Prometheus."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from prometheus_client import Counter as Total
from prometheus_client import Gauge, Histogram

from components.core.drift import DriftBaseline

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

REQUESTS = Total("bin_counter_requests", "Requests by protocol and outcome", ["protocol", "outcome"])
REJECTED = Total("bin_counter_rejected", "Requests that were refused, by reason", ["reason"])
STAGE_SECONDS = Histogram(
    "bin_counter_stage_seconds", "Time of a photo (wait, decode) or batch (infer)", ["stage"], buckets=_SECONDS
)
BATCH_SIZE = Histogram("bin_counter_batch_size", "Photos inferred together", buckets=(1, 2, 4, 8, 16, 32, 64))
WAITING = Gauge("bin_counter_queue_photos", "Photos that wait")
QUEUE_LIMIT = Gauge("bin_counter_queue_limit", "Photos that may wait before requests are refused")
COUNTS = Total("bin_counter_predicted", "Answers by predicted count", ["model", "count"])
CONFIDENCE = Histogram(
    "bin_counter_confidence", "Probability of the predicted count", ["model"], buckets=[n / 10 for n in range(1, 11)]
)
DRIFT = Gauge(
    "bin_counter_drift",
    "Distance of recent answers (signal: counts, out_of_range) from those on validation bins of every count, as a "
    "multiple of what chance explains; above 1 something has changed",
    ["model", "version", "signal"],
)
DRIFT_ANSWERS = Gauge(
    "bin_counter_drift_answers", "Recent answers that the drift figures are computed from", ["model", "version"]
)
MODEL_INFO = Gauge(
    "bin_counter_model", "1 for every version that is loaded", ["model", "version", "runtime", "precision"]
)


class Drift:
    """Compares the last answers of a version with those that it gave on validation-block bins of every count."""

    window = 4000

    def __init__(self, model: str, version: str, baseline: DriftBaseline) -> None:
        self._baseline = baseline
        self._labels = (model, version)
        self._recent: deque[tuple[int, float]] = deque()
        self._histogram = [0] * len(baseline.counts)
        self._out_of_range = 0.0
        DRIFT.labels(model, version, "counts").set_function(self.counts)
        if baseline.out_of_range_mean is not None:
            DRIFT.labels(model, version, "out_of_range").set_function(self.out_of_range)
        DRIFT_ANSWERS.labels(model, version).set_function(lambda: len(self._recent))

    def add(self, answers: Iterable[tuple[int, float | None]]) -> None:
        """Take note of predicted counts and probabilities of being out of range (from one thread only)."""
        for count, out_of_range in answers:
            self._recent.append((count, out_of_range or 0.0))
            self._histogram[count - 1] += 1
            self._out_of_range += out_of_range or 0.0
            if len(self._recent) > self.window:
                oldest, its_out_of_range = self._recent.popleft()
                self._histogram[oldest - 1] -= 1
                self._out_of_range -= its_out_of_range

    def counts(self) -> float:
        """The drift of the counts over the window; NaN before the first answer."""
        return self._baseline.counts_drift(self._histogram)

    def out_of_range(self) -> float:
        """The drift of the probability of being out of range over the window; NaN before the first answer."""
        return self._baseline.out_of_range_drift(self._out_of_range, len(self._recent))

    def close(self) -> None:
        """Take the version's figures away, so that a version that no longer answers says nothing."""
        for signal in ("counts", "out_of_range"):
            with suppress(KeyError):
                DRIFT.remove(*self._labels, signal)
        with suppress(KeyError):
            DRIFT_ANSWERS.remove(*self._labels)
