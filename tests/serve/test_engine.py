"""The inside of the server without a server: who works on what, and with how many cores."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.core.runtime import Prediction
from components.serve.answers import Answer, Photo
from components.serve.engine import Engine, EngineOptions, usable_cores
from components.serve.refusal import Refusal
from tests.small_model import photo, write_small_bundle


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    bundle = write_small_bundle(tmp_path_factory.mktemp("engine") / "model")
    it = Engine(bundle, EngineOptions(runtime="openvino", threads=2, queue_limit=40))
    it.start()
    yield it
    it.close()


def test_alone_and_in_company_a_photo_gets_the_same_answer(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo that is alone is inferred on all cores, by a graph that was opened for that."""
    alone: list[int] = []
    predict = engine._alone.predict

    def predict_alone(pixels: NDArray[np.uint8]) -> Prediction:
        alone.append(len(pixels))
        return predict(pixels)

    monkeypatch.setattr(engine._alone, "predict", predict_alone)
    photos = [Photo(photo(1 + number % 5, number)) for number in range(40)]

    async def one_by_one() -> list[Answer]:
        return [answer for single in photos for answer in await engine.count([single])]

    singly = asyncio.run(one_by_one())
    assert alone == [1] * 40
    together = asyncio.run(engine.count(photos))
    assert len(alone) <= 42  # the last ones at most, when nothing waits any more
    assert [answer.count for answer in singly] == [answer.count for answer in together]
    scores = [np.array([answer.scores for answer in answers]) for answers in (singly, together)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-5


def test_what_does_not_fit_into_the_queue_is_refused_as_a_whole(engine: Engine) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(engine.count([Photo(photo(1))] * 41))
    assert (refused.value.status, refused.value.retry_after) == (503, 1)
    assert asyncio.run(engine.count([Photo(photo(2))]))[0].count == 2


@pytest.mark.parametrize(("limit", "cores"), [("50000 100000", 1), ("150000 100000", 2), ("max 100000", 64)])
def test_a_containers_cpu_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cores: int) -> None:
    """On a node of 64 cores, a container that may use two of them gets no 64 workers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores
    assert usable_cores(tmp_path / "nothing") == 64
