"""The alternative BentoML: the same decoding and the same OpenVINO graph; a worker with one thread for every core."""

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType

from components.core.bundle import read_bundle
from components.core.pixels import decode_squashed
from components.core.runtime import open_runtime


@bentoml.service(workers=2, traffic={"timeout": 60, "max_concurrency": 256})
class Counter:
    """Counts one photo."""

    def __init__(self) -> None:
        self.runtime = open_runtime(read_bundle(os.environ["BUNDLE"]), "openvino", threads=1)

    @bentoml.api
    def predict(self, photo: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        """Count the items in one photo."""
        pixels = decode_squashed(photo.read_bytes(), self.runtime.bundle.info.image_size)
        prediction = self.runtime.predict(np.asarray(pixels)[None])
        return {"count": int(prediction.counts[0]), "scores": prediction.scores[0].tolist()}
