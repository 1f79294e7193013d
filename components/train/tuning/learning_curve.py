"""The learning curve: what the model would gain from more bins.

Trains on 12, 25, 50 and 100 % of the training subset and fits a power law to the validation error.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

from components.core.report import SERIES, Report, new_axes
from components.train.job import Job
from components.train.loop.distributed import Processes
from components.train.train import fit, prepare
from components.train.watch.log import Log

SHARES = (0.12, 0.25, 0.5, 1.0)
# Where the fitted law is read off: ten times the data, and the training share of the whole public dataset.
FULL_SIZE = 240_000


@dataclass(frozen=True)
class Point:
    """One training: images, and accuracy and loss on the validation subset after its last epoch."""

    images: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class PowerLaw:
    """error = a·images^-b, without a floor: four points cannot tell a floor from a slope."""

    a: float
    b: float

    def accuracy(self, images: float) -> float:
        """Accuracy that the law gives for so many images."""
        return float(1 - self.a * images**-self.b)


def fit_power_law(points: Sequence[Point]) -> PowerLaw:
    """Least squares of the error, b within 0…1 (Hestness et al., Deep Learning Scaling is Predictable, 2017)."""
    images = np.array([point.images for point in points], float)
    errors = 1 - np.array([point.accuracy for point in points])
    (a, b), _ = curve_fit(
        lambda x, a, b: a * (x / images[0]) ** -b, images, errors, p0=(errors[0], 0.1), bounds=([0, 0], [2, 1])
    )
    return PowerLaw(float(a * images[0] ** b), float(b))


def train_points(job: Job, processes: Processes, shares: Sequence[float] = SHARES) -> list[Point]:
    """Train on each share of the training bins; a larger share holds the smaller ones.

    The number of steps is kept, so that a small share is not judged by a network that has hardly moved.
    """
    whole = len(prepare(job, processes).data.train)
    steps = job.recipe.epochs * -(-whole // job.recipe.batch_size)
    points = []
    for share in shares:
        images = max(job.recipe.batch_size, round(share * whole))
        recipe = job.recipe.model_copy(update={"minimum_steps": min(steps, 4 * steps * images // whole)})
        part = replace(job, recipe=recipe, limit=0 if share == 1 else images)
        print(f"training on {images:,} of {whole:,} bins", flush=True)
        with Log(None) as log:
            fitted = fit(prepare(part, processes), processes, log.epoch)
        points.append(Point(images, fitted.validation_accuracy, fitted.validation_loss))
    return points


def write_curve(points: Sequence[Point], folder: Path, recipe: str) -> None:
    """Write learning-curve.html and learning-curve.json into `folder`."""
    law = fit_power_law(points)
    last = points[-1]
    reach = np.geomspace(points[0].images, max(FULL_SIZE, 2 * last.images), 60)
    figure, axes = new_axes()
    axes.scatter([point.images for point in points], [point.accuracy for point in points], color=SERIES[0], zorder=3)
    axes.plot(reach, [law.accuracy(images) for images in reach], color=SERIES[1], linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("training images")
    axes.set_ylabel("validation accuracy")
    tenfold = law.accuracy(10 * last.images)
    report = Report(
        "What more data would bring",
        f"Recipe {recipe}. With {last.images:,} training images {last.accuracy:.1%} of the validation bins are counted "
        f"right. If the error goes on falling like {law.a:.2f}·n^-{law.b:.3f}, ten times as many bring {tenfold:.1%}, "
        f"the whole dataset's {FULL_SIZE:,} bring {law.accuracy(FULL_SIZE):.1%}.",
    )
    report.figure(figure, "Accuracy by training images: measured, and the fitted power law")
    rows = [[f"{p.images:,}", f"{p.accuracy:.1%}", f"{p.loss:.4f}", f"{law.accuracy(p.images):.1%}"] for p in points]
    report.table(["training images", "accuracy", "loss", "the law says"], rows, "On the validation subset")
    report.write(folder / "learning-curve.html")
    content = {"points": [asdict(point) for point in points], "law": asdict(law)}
    (folder / "learning-curve.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"error = {law.a:.2f}·n^-{law.b:.3f}; ten times the images: {tenfold:.1%}. {folder / 'learning-curve.html'}")
