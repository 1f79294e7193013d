"""Golden requests: test photos sent to a running server, whose answers must be those that evaluate got."""

import time
from pathlib import Path

import numpy as np
import requests

from components.core.bundle import BundleInfo
from components.core.errors import UserError
from components.core.layout import MODEL_NAME
from components.core.predictions import read_predictions
from components.core.registry import GoldenAnswer, GoldenRequest
from components.core.shards import ShardIndex, read_images

GOLDEN_REQUESTS = 16
REQUEST_TIMEOUT_SECONDS = 30.0
# A server that has just come up behind a service may refuse or break off a connection while the routes settle.
ATTEMPTS = 5
PAUSE_SECONDS = 1.0
# How far a probability may be off. Rounding in f32 is far below; bf16 and int8 depend on batch size and processor.
TOLERANCES = {"f32": 1e-3, "bf16": 0.05, "int8": 0.05}


def choose_golden(predictions_path: Path, index_path: Path, size: int = GOLDEN_REQUESTS) -> list[GoldenRequest]:
    """The first `size` test bins in the shards' order, with evaluate's answers; reads no shard beyond those needed.

    Raises UserError when no test bin has a photo.
    """
    answers = {
        str(row["image_id"]): GoldenAnswer(
            image_id=row["image_id"],
            count=row["count"],
            scores=tuple(map(float, row["scores"])),
            out_of_range=None if np.isnan(row["out_of_range"]) else float(row["out_of_range"]),
        )
        for row in read_predictions(predictions_path).query("subset == 'test'").to_dict("records")
    }
    chosen: list[GoldenRequest] = []
    index = ShardIndex.read(index_path)
    index.note_use()
    for image_id, jpeg in read_images(index):
        if image_id in answers:
            chosen.append(GoldenRequest(jpeg, answers[image_id]))
        if len(chosen) == min(size, len(answers)):
            break
    if not chosen:
        raise UserError("There is no test photo to ask the new server about; run evaluate again.")
    return chosen


def check_answers(
    url: str, version: str, info: BundleInfo, golden: list[GoldenRequest], settle_seconds: float = 0
) -> None:
    """Send every golden request to the server at `url`. Raises UserError at the first answer that is wrong.

    For `settle_seconds` answers of another version are excused: right after a rolling update a request may still reach
    a pod that is going away.
    """
    endpoint = f"{url}/v1/models/{MODEL_NAME}:predict"
    with requests.Session() as session:
        deadline = time.monotonic() + settle_seconds
        for request in golden:
            # Old and new pods may answer in turn for a while, so one answer of the new version does not end it.
            prediction = _ask(session, endpoint, request)
            while prediction.get("model_version") != version and time.monotonic() < deadline:
                time.sleep(PAUSE_SECONDS)
                prediction = _ask(session, endpoint, request)
            wrong = _difference(prediction, request.answer, version, TOLERANCES[info.precision])
            if wrong:
                raise UserError(
                    f"The server at {url} is wrong about test photo {request.answer.image_id}: {wrong}; "
                    "serving and evaluation must use the same code, so build both images from one revision."
                )
    print(f"deploy: version {version} answers {len(golden)} test photos as evaluated", flush=True)


def _ask(session: requests.Session, endpoint: str, request: GoldenRequest) -> dict[str, object]:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = session.post(
                endpoint, request.jpeg, headers={"Content-Type": "image/jpeg"}, timeout=REQUEST_TIMEOUT_SECONDS
            )
            if response.status_code not in (502, 503, 504) or attempt == ATTEMPTS:
                break
        except requests.RequestException as error:
            if attempt == ATTEMPTS:
                raise UserError(
                    f"The server at {endpoint} does not answer ({type(error).__name__}); check that it is reachable "
                    "from where deploy runs."
                ) from error
        time.sleep(PAUSE_SECONDS * attempt)
    try:
        prediction = response.json()["predictions"][0]
        return dict(prediction)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"The server at {endpoint} answered {response.status_code} {response.text[:200]!r} to test photo "
            f"{request.answer.image_id} instead of a count; look at the server's log."
        ) from error


def _difference(prediction: dict[str, object], answer: GoldenAnswer, version: str, tolerance: float) -> str:
    """What is wrong with a prediction, "" if nothing is."""
    served = prediction.get("model_version")
    if served != version:
        return f"it was answered by version {served}, not {version}"
    scores = prediction.get("scores")
    if not isinstance(scores, list) or len(scores) != len(answer.scores):
        return f"its scores are {scores}, not {len(answer.scores)} probabilities"
    distance = float(np.abs(np.array(scores, dtype=np.float64) - np.array(answer.scores)).max())
    # Where two counts are as good as equal, rounding may turn their order; then either is right.
    equals = [place + 1 for place, score in enumerate(answer.scores) if max(answer.scores) - score <= 2 * tolerance]
    count = prediction.get("count")
    if not distance <= tolerance or (count != answer.count and count not in equals):
        return (
            f"count {count} where evaluate got {answer.count} "
            f"(largest difference of a probability {distance:.4f}, allowed {tolerance})"
        )
    outside = prediction.get("out_of_range")
    if (outside is None) != (answer.out_of_range is None):
        return f"out_of_range is {outside} where evaluate got {answer.out_of_range}"
    if answer.out_of_range is not None and not abs(float(str(outside)) - answer.out_of_range) <= tolerance:
        return f"out_of_range is {outside} where evaluate got {answer.out_of_range:.4f}"
    return ""
