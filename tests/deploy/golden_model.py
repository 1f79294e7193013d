"""A small model with the answers it must give."""

from dataclasses import dataclass

import numpy as np

from components.core.bundle import Bundle, bundle_version
from components.core.pixels import decode_squashed
from components.core.registry import GoldenAnswer, GoldenRequest
from components.core.runtime import open_runtime
from tests.small_model import IMAGE_SIZE, photo


@dataclass(frozen=True)
class Model:
    """A bundle and its golden requests."""

    version: str
    bundle: Bundle
    golden: list[GoldenRequest]


def make_model(bundle: Bundle) -> Model:
    jpegs = [photo(count, seed=count) for count in range(1, 5)]
    prediction = open_runtime(bundle).predict(np.stack([decode_squashed(jpeg, IMAGE_SIZE) for jpeg in jpegs]))
    assert prediction.out_of_range is not None
    golden = [
        GoldenRequest(
            jpeg,
            GoldenAnswer(
                image_id=f"{place:05d}",
                count=int(prediction.counts[place]),
                scores=tuple(map(float, prediction.scores[place])),
                out_of_range=float(prediction.out_of_range[place]),
            ),
        )
        for place, jpeg in enumerate(jpegs)
    ]
    return Model(bundle_version(bundle.folder), bundle, golden)
