"""The alternative LitServe: the same decoding and the same OpenVINO graph; a worker with one thread for every core."""

import base64
import sys
from typing import Any

import litserve
import numpy as np

from components.core.bundle import read_bundle
from components.core.pixels import decode_squashed
from components.core.runtime import open_runtime


class Counter(litserve.LitAPI):
    """Counts one photo."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the bundle."""
        self.runtime = open_runtime(read_bundle(sys.argv[1]), "openvino", threads=1)

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Base64 to pixels; LitServe takes JSON or forms."""
        return decode_squashed(base64.b64decode(request["b64"]), self.runtime.bundle.info.image_size)

    def predict(self, pixels: Any) -> Any:
        """Pixels to scores."""
        return self.runtime.predict(np.asarray(pixels)[None])

    def encode_response(self, prediction: Any) -> dict[str, Any]:
        """Scores to JSON."""
        return {"count": int(prediction.counts[0]), "scores": prediction.scores[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Counter(), accelerator="cpu", workers_per_device=2)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
