"""The DAG: ingest_metadata → split → download → train → evaluate → gate → deploy."""

from typing import NamedTuple, Protocol

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.core.images import PIPELINE_IMAGE, TRAIN_IMAGE, reference
from components.deploy.component import deploy
from components.download.component import download
from components.evaluate.component import evaluate
from components.gate.component import gate
from components.ingest_metadata.component import ingest_metadata
from components.split.component import split
from components.train.component import train
from pipeline.parameters import Parameters

PIPELINE_NAME = "bin-counter"
DEFAULT = Parameters()


class Placement(Protocol):
    """Gives a task what it needs on a cluster: node pool, memory, secrets, timeout, retry."""

    def apply(self, task: dsl.PipelineTask, step: str) -> None:
        """Set it on the task of `step`."""


class Outputs(NamedTuple):
    """What a run leaves behind."""

    ingest_report: dsl.HTML
    ingest_rejects: dsl.Dataset
    split_report: dsl.HTML
    download_rejects: dsl.Dataset
    bundle: dsl.Model
    train_report: dsl.HTML
    curves: dsl.Artifact
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    report: dsl.HTML
    verdict: dsl.Artifact


def build_pipeline(placement: Placement | None = None, target: str = "kserve") -> BaseComponent:
    """The pipeline as a KFP component; `target` is where its deploy step deploys, `kserve` or `local`."""

    @dsl.pipeline(name=PIPELINE_NAME, description="Learns to count the items in a bin from its photo, and deploys it.")
    def bin_counter(
        source: str = "s3://aft-vbi-pds",
        snapshot: str = "",
        limit: int = DEFAULT.limit,
        max_count: int = DEFAULT.max_count,
        seed: int = DEFAULT.seed,
        validation_share: float = DEFAULT.validation_share,
        test_share: float = DEFAULT.test_share,
        file_lists: str = DEFAULT.file_lists,
        max_reject_share: float = DEFAULT.max_reject_share,
        recipe: str = DEFAULT.recipe,
        epochs: int = DEFAULT.epochs,
        image_size: int = DEFAULT.image_size,
        backbone: str = DEFAULT.backbone,
        weights: str = DEFAULT.weights,
        overrides: str = DEFAULT.overrides,
        champion: str = "",
        margin: float = DEFAULT.margin,
        force: bool = DEFAULT.force,
        deploy_options: str = "{}",
        data_uri: str = DEFAULT.data_uri,
        models_uri: str = DEFAULT.models_uri,
        pipeline_image: str = reference(PIPELINE_IMAGE),
        train_image: str = reference(TRAIN_IMAGE),
    ) -> Outputs:
        def place(task: dsl.PipelineTask, step: str) -> None:
            task.set_container_image(train_image if step == "train" else pipeline_image)
            # A cached step does not run, and deploying is all about what running it does.
            task.set_caching_options(step != "deploy")
            if placement is not None:
                placement.apply(task, step)

        ingested = ingest_metadata(
            source=source, snapshot=snapshot, limit=limit, max_count=max_count, seed=seed, data_uri=data_uri
        )
        place(ingested, "ingest_metadata")
        divided = split(
            records=ingested.outputs["records"],
            max_count=max_count,
            seed=seed,
            validation_share=validation_share,
            test_share=test_share,
            file_lists=file_lists,
        )
        place(divided, "split")
        fetched = download(
            source=source, splits=divided.outputs["splits"], data_uri=data_uri, max_reject_share=max_reject_share
        )
        place(fetched, "download")
        trained = train(
            shard_index=fetched.outputs["shard_index"],
            splits=divided.outputs["splits"],
            recipe=recipe,
            epochs=epochs,
            image_size=image_size,
            backbone=backbone,
            weights=weights,
            overrides=overrides,
            max_count=max_count,
            seed=seed,
            data_uri=data_uri,
        )
        place(trained, "train")
        evaluated = evaluate(
            bundle=trained.outputs["bundle"],
            shard_index=fetched.outputs["shard_index"],
            splits=divided.outputs["splits"],
            seed=seed,
        )
        place(evaluated, "evaluate")
        judged = gate(
            bundle=trained.outputs["bundle"],
            metrics=evaluated.outputs["metrics"],
            predictions=evaluated.outputs["predictions"],
            shard_index=fetched.outputs["shard_index"],
            champion=champion,
            models_uri=models_uri,
            margin=margin,
            force=force,
        )
        place(judged, "gate")
        with dsl.If(judged.outputs["Output"] == "deploy", name="passed"):
            deployed = deploy(
                bundle=trained.outputs["bundle"],
                predictions=evaluated.outputs["predictions"],
                shard_index=fetched.outputs["shard_index"],
                verdict=judged.outputs["verdict"],
                models_uri=models_uri,
                target=target,
                options=deploy_options,
            )
            place(deployed, "deploy")
        return Outputs(
            ingest_report=ingested.outputs["report"],
            ingest_rejects=ingested.outputs["rejects"],
            split_report=divided.outputs["report"],
            download_rejects=fetched.outputs["rejects"],
            bundle=trained.outputs["bundle"],
            train_report=trained.outputs["report"],
            curves=trained.outputs["curves"],
            metrics=evaluated.outputs["metrics"],
            predictions=evaluated.outputs["predictions"],
            report=evaluated.outputs["report"],
            verdict=judged.outputs["verdict"],
        )

    return bin_counter
