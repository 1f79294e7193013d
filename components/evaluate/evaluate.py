"""Judge a model on bins it never saw, through the runtime and precision that will serve it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from components.core.bundle import Bundle, bundle_version, read_bundle
from components.core.contents import BinRecord
from components.core.errors import UserError
from components.core.files import write_whole
from components.core.metrics import Evaluation, evaluate_counts, out_of_range_figures, summary_line
from components.core.posterior import read_record_model
from components.core.predictions import PredictedBatch, held_out_bins, predict_bins, stack_scores, write_predictions
from components.core.record_metrics import RecordFigures
from components.core.records import block_of, read_splits
from components.core.runtime import all_classes, open_runtime
from components.core.shards import ShardIndex
from components.evaluate.examples import Examples
from components.evaluate.occlusion import look_at
from components.evaluate.page import write_page
from components.evaluate.records import HeldOut, judge_records

LOOKED_AT_MISTAKES = 8  # of those shown; each asks the model 50 times


@dataclass(frozen=True)
class Outputs:
    """Where the step's results go."""

    metrics: Path
    predictions: Path
    report: Path


def evaluate(bundle_folder: Path, index_path: Path, splits_path: Path, seed: int, outputs: Outputs) -> Evaluation:
    """Predict the held-out bins, write metrics.json, the predictions and the report; returns the figures.

    Raises UserError when the bundle is damaged, or no test bin has a photo.
    """
    bundle = read_bundle(bundle_folder)
    splits = held_out_bins(read_splits(splits_path))
    if not bundle.info.has_out_of_range:
        splits = splits[splits["subset"] == "test"]
    index = ShardIndex.read(index_path)
    index.note_use()
    predictions, examples = _predict(bundle, index, splits.set_index("image_id"))
    evaluation = judge(bundle, predictions, seed)
    records = _judge_records(bundle, predictions, splits.set_index("image_id")["product_list"], seed)
    evaluation = evaluation.model_copy(update={"records": records})
    looked_at = look_at(open_runtime(bundle), [*examples.mistakes[:LOOKED_AT_MISTAKES], *examples.right])
    missing = int((splits["subset"] == "test").sum()) - evaluation.n_test
    for path in (outputs.metrics, outputs.predictions, outputs.report):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(outputs.metrics, evaluation.model_dump_json(indent=2) + "\n")
    write_predictions(outputs.predictions, predictions)
    write_page(outputs.report, bundle.info, evaluation, predictions, examples, looked_at, missing)
    print(summary_line(evaluation), flush=True)
    return evaluation


def judge(bundle: Bundle, predictions: pd.DataFrame, seed: int) -> Evaluation:
    """All figures from a table of predictions. Raises UserError when it holds no test bin."""
    test = predictions[predictions["subset"] == "test"]
    if test.empty:
        raise UserError(
            "There is no test bin with a photo to judge the model on; give more bins or a larger TEST_SHARE."
        )
    evaluation = evaluate_counts(test["quantity"].to_numpy(np.int64), stack_scores(test), seed)
    outside = None
    if bundle.info.has_out_of_range:
        probability = predictions["out_of_range"].to_numpy(np.float64)
        outside = out_of_range_figures((predictions["subset"] == "extra").to_numpy(), probability)
    runtime = open_runtime(bundle)
    return evaluation.model_copy(
        update={
            "model_version": bundle_version(bundle.folder),
            "runtime": runtime.name,
            "precision": runtime.precision,
            "out_of_range": outside,
        }
    )


def _judge_records(
    bundle: Bundle, predictions: pd.DataFrame, product_lists: pd.Series, seed: int
) -> RecordFigures | None:
    """Figures of records; None for a model that knows nothing of them."""
    model = read_record_model(bundle)
    if model is None or predictions["empty"].isna().any():
        return None
    lists = product_lists.loc[predictions["image_id"]]
    records = list(map(BinRecord.decode, predictions["quantity"].tolist(), lists))
    photo = all_classes(stack_scores(predictions), predictions[["empty", "more"]].to_numpy(np.float64))
    blocks, _ = pd.factorize(predictions["image_id"].map(block_of))
    return judge_records(model, HeldOut(records, photo, blocks.astype(np.int64)), seed)


def _predict(bundle: Bundle, index: ShardIndex, bins: pd.DataFrame) -> tuple[pd.DataFrame, Examples]:
    """Predictions of all bins in order of their ids, and the test bins that the report shows."""
    tables: list[pd.DataFrame] = []
    examples = Examples(bundle.info.max_count)
    for batch in predict_bins(bundle, index, set(bins.index)):
        table = _table(batch, bins)
        tables.append(table)
        examples.add(batch, table)
    if not tables:
        raise UserError("No held-out bin has a photo in the shards; run download again, or give more bins.")
    return pd.concat(tables).sort_values("image_id", ignore_index=True), examples


def _table(batch: PredictedBatch, bins: pd.DataFrame) -> pd.DataFrame:
    known = bins.loc[batch.image_ids]
    prediction = batch.prediction
    return pd.DataFrame(
        {
            "image_id": batch.image_ids,
            "file": [file or image_id for file, image_id in zip(known["file"], batch.image_ids, strict=True)],
            "quantity": known["quantity"].to_numpy(),
            "subset": known["subset"].to_numpy(),
            "count": prediction.counts,
            "expected_count": prediction.expected_counts,
            "scores": list(prediction.scores),
            "out_of_range": np.nan if prediction.out_of_range is None else prediction.out_of_range,
            "empty": np.nan if prediction.empty_and_more is None else prediction.empty_and_more[:, 0],
            "more": np.nan if prediction.empty_and_more is None else prediction.empty_and_more[:, 1],
        }
    )
