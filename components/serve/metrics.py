"""What the server counts about itself, for Prometheus."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence

from prometheus_client import Counter as Total
from prometheus_client import Gauge, Histogram

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
    "bin_counter_drift_psi",
    "Population stability index of recent counts against validation; below 0.1 is calm, above 0.25 a shift",
    ["model"],
)
DRIFT_ANSWERS = Gauge("bin_counter_drift_answers", "Recent answers that the drift figure is computed from", ["model"])
MODEL_INFO = Gauge(
    "bin_counter_model", "1 for every version that is loaded", ["model", "version", "runtime", "precision"]
)


def population_stability_index(expected: Sequence[int], observed: Sequence[int]) -> float:
    """PSI = Σ (o - e)·ln(o / e) over the shares of two histograms with the same bins.

    (Lewis, An Introduction to Credit Scoring, 1994; also Siddiqi, Credit Risk Scorecards, 2006.) Half an observation is
    added to every bin, so that an empty one does not make it infinite. NaN when a histogram is empty.
    """
    if not sum(expected) or not sum(observed):
        return math.nan
    shares = [
        [(n + 0.5) / (sum(histogram) + 0.5 * len(histogram)) for n in histogram] for histogram in (expected, observed)
    ]
    return sum((o - e) * math.log(o / e) for e, o in zip(*shares, strict=True))


class Drift:
    """Compares the counts of the last answers with those that the model gave on validation."""

    window = 2000

    def __init__(self, model: str, validation_counts: Sequence[int]) -> None:
        self._expected = list(validation_counts)
        self._recent: deque[int] = deque()
        self._histogram: Counter[int] = Counter()
        DRIFT.labels(model).set_function(self.value)
        DRIFT_ANSWERS.labels(model).set_function(lambda: len(self._recent))

    def add(self, counts: Iterable[int]) -> None:
        """Take note of predicted counts (from one thread only)."""
        for count in counts:
            self._recent.append(count)
            self._histogram[count] += 1
            if len(self._recent) > self.window:
                self._histogram[self._recent.popleft()] -= 1

    def value(self) -> float:
        """The index over the window; NaN before the first answer and for a bundle without validation counts."""
        observed = [self._histogram[label] for label in range(1, len(self._expected) + 1)]
        return population_stability_index(self._expected, observed)
