import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import compiler, dsl, local

from components.core.errors import UserError
from components.train.job import Job, Outputs
from components.train.train import train
from components.train.trials import TrialResult, best_of, chosen_overrides, read_trials, write_study, write_trials
from components.train.tuning.component import tune_plan, tune_select, tune_trial
from components.train.tuning.study import BATCH_SIZES, run_trial, values_of
from tests.train.conftest import ALONE, DATA_URI, FAST, TINY, SmallData


def test_trials_are_the_same_for_the_same_seed_and_differ_between_seeds() -> None:
    study = [[values_of(trial, 4, seed) for trial in range(4)] for seed in (0, 0, 1)]
    assert study[0] == study[1] != study[2]


def test_trials_cover_the_original_search_space() -> None:
    trials = [values_of(trial, 8, 3) for trial in range(8)]
    assert all(0.001 <= trial.learning_rate <= 0.1 for trial in trials)
    places = sorted((math.log10(trial.learning_rate) + 3) / 2 for trial in trials)
    assert all(place / 8 - 1e-3 <= value <= (place + 1) / 8 + 1e-3 for place, value in enumerate(places))
    assert {trial.batch_size for trial in trials} == set(BATCH_SIZES)


def test_the_lowest_validation_loss_wins_over_the_given_overrides() -> None:
    results = [
        TrialResult(trial=0, learning_rate=0.01, batch_size=32, loss=1.4),
        TrialResult(trial=1, learning_rate=0.02, batch_size=64, loss=1.2),
        TrialResult(trial=2, learning_rate=0.1, batch_size=256, reason="too large"),
    ]
    assert best_of(results).trial == 1
    chosen = json.loads(chosen_overrides(results, '{"batch_size": 8, "dropout": 0.5}'))
    assert chosen == {"batch_size": 64, "dropout": 0.5, "learning_rate": 0.02}


def test_a_study_in_which_every_trial_failed_says_why() -> None:
    with pytest.raises(UserError, match=r"All 1 trials failed, .*too large"):
        best_of([TrialResult(trial=0, learning_rate=0.1, batch_size=256, reason="too large")])


def test_a_trial_that_fails_is_a_result_and_no_error(job_of: Callable[..., Job], tmp_path: Path) -> None:
    job = job_of("frozen")
    results = [run_trial(job, trial, 4, ALONE) for trial in range(4)]
    # 60 training bins: batches of 32 fit, those of 128 and 256 do not.
    assert {result.batch_size: bool(result.reason) for result in results}[256]
    assert "A batch of 256 is larger" in next(r.reason for r in results if r.batch_size == 256)
    assert any(result.loss is not None for result in results)
    write_study(results, tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text()
    assert "(best)" in page
    assert "failed" in page
    assert read_trials(write_trials(results)) == tuple(results)


def test_the_report_of_the_final_training_shows_the_trials(job_of: Callable[..., Job], tmp_path: Path) -> None:
    study = (
        TrialResult(trial=0, learning_rate=0.0123, batch_size=16, loss=1.4),
        TrialResult(trial=1, learning_rate=0.1, batch_size=256, reason="too large"),
    )
    train(job_of(study=study), Outputs(tmp_path / "model", tmp_path / "page", tmp_path / "curves"), ALONE)
    page = (tmp_path / "page").read_text()
    assert "0.0123" in page
    assert "too large" in page


def test_a_study_that_is_none_is_refused() -> None:
    assert read_trials("") == ()
    with pytest.raises(UserError, match="The study cannot be read"):
        read_trials('[{"trial": "first"}]')


@dsl.pipeline
def study(
    index: str,
    splits: str,
    recipe: str,
    weights: str,
    backbone: str,
    overrides: str,
    data_uri: str,
    tune: bool,
    trials: int,
) -> str:
    shards = dsl.importer(artifact_uri=index, artifact_class=dsl.Artifact, reimport=False)
    table = dsl.importer(artifact_uri=splits, artifact_class=dsl.Dataset, reimport=False)
    planned = tune_plan(
        tune=tune, trials=trials, recipe=recipe, epochs=1, image_size=48, backbone=backbone, weights=weights,
        overrides=overrides, max_count=5, seed=0,
    )  # fmt: skip
    with dsl.ParallelFor(planned.output, parallelism=2) as trial:
        tried = tune_trial(shard_index=shards.output, splits=table.output, trial=trial, data_uri=data_uri)
    return tune_select(results=dsl.Collected(tried.outputs["result"]), overrides=overrides).outputs["overrides"]


def test_the_study_compiles(tmp_path: Path) -> None:
    compiler.Compiler().compile(study, str(tmp_path / "study.yaml"))
    assert "parallelismLimit: 2" in (tmp_path / "study.yaml").read_text().replace("iteratorPolicy:\n", "")


@pytest.mark.parametrize("tune", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_study_runs_as_a_local_dag(
    small_data: SmallData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: bool
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kfp"))
    run = study(
        index=str(small_data.index), splits=str(small_data.splits), recipe="frozen", weights="random",
        backbone=TINY, overrides=FAST, data_uri=DATA_URI, tune=tune, trials=4,
    )  # fmt: skip
    chosen = json.loads(run.output)
    assert (chosen == json.loads(FAST)) is not tune
    if tune:
        assert 0.001 <= chosen["learning_rate"] <= 0.1
        assert chosen["batch_size"] in BATCH_SIZES
