"""Sets of counts that hold the true one as often as was asked for: "it is 3 or 4", up to "cannot tell".

Split conformal prediction (Vovk et al. 2005) with the score of adaptive prediction sets (Romano et al. 2020) where its
random part is always 1: what a set holds before the truth joins it. A set is grown from the likeliest class to
whichever neighbour is likelier, so it has no gaps: nobody knows what to do with "2 or 5". Never ask it with the
recorded quantity, whose truth is in question.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

LEVEL = 0.9  # the share of bins whose set is to hold the true count

Array = NDArray[np.float64]
Mass = Annotated[float, Field(ge=0, le=1)]


class SetThresholds(BaseModel):
    """How much probability a set may hold and still grow, so that a share `level` of the sets hold the truth.

    `photo` is for what the photo alone says, `listed` for photo and products without their quantities.
    """

    model_config = ConfigDict(frozen=True)

    level: Mass
    photo: Mass
    listed: Mass | None = None


def mass_before(probabilities: Array) -> Array:
    """For N×C probabilities of classes in order: what a set holds before it grows to each class, N×C."""
    number, classes = probabilities.shape
    rows = np.arange(number)
    first = last = probabilities.argmax(axis=1)
    padded = np.pad(probabilities, ((0, 0), (1, 1)), constant_values=-1)
    mass = probabilities[rows, first]
    found = np.zeros_like(probabilities)
    for _ in range(classes - 1):
        below, above = padded[rows, first], padded[rows, last + 2]
        downwards = below >= above
        first, last = first - downwards, last + ~downwards
        found[rows, np.where(downwards, first, last)] = mass
        mass = mass + np.where(downwards, below, above)
    return found


def threshold(probabilities: Array, truth: NDArray[np.int64], level: float = LEVEL) -> float:
    """The conformal quantile over N bins that nothing was fitted on; `truth` N are places of classes.

    1 where so few bins cannot promise the level.
    """
    scores = np.sort(mass_before(probabilities)[np.arange(len(truth)), truth])
    place = int(np.ceil((len(scores) + 1) * level))
    return float(min(scores[place - 1], 1.0)) if place <= len(scores) else 1.0


def count_sets(probabilities: Array, most: float) -> NDArray[np.int64]:
    """The first and the last class of each row's set, N×2; the likeliest class is always in it."""
    inside = mass_before(probabilities) <= most + 1e-9
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return np.stack([inside.argmax(axis=1), last], axis=1)
