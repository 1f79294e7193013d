"""The DAG: choose_recipe → ingest_metadata → split → download → train → evaluate → gate → deploy.

On a cluster `champion` looks first at what is so now, and `summarise` tells at the end how it went.
"""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.champion.component import champion as find_champion
from components.choose_recipe.component import choose_recipe
from components.core.images import PIPELINE_IMAGE, TRAIN_IMAGE, reference
from components.core.run import CHANGED
from components.deploy.component import deploy
from components.download.component import download
from components.evaluate.component import evaluate
from components.gate.component import gate
from components.ingest_metadata.component import ingest_metadata
from components.split.component import split
from components.summarise.component import summarise
from components.train.component import train
from components.train_job.component import train_job
from pipeline.parameters import Parameters
from pipeline.resources import TRAIN_IMAGE_STEPS, GpuPool, Placement
from pipeline.tuning import choose_by_trials

PIPELINE_NAME = "bin-counter"
DESCRIPTION = "Learns to count the items in a bin from its photo, and deploys it."
DEFAULT = Parameters()


class Outputs(NamedTuple):
    """What a run leaves behind."""

    ingest_report: dsl.HTML
    ingest_rejects: dsl.Dataset
    split_report: dsl.HTML
    split_lists: dsl.Artifact
    download_rejects: dsl.Dataset
    download_report: dsl.HTML
    bundle: dsl.Model
    train_report: dsl.HTML
    curves: dsl.Artifact
    metrics: dsl.Metrics
    predictions: dsl.Dataset
    report: dsl.HTML
    verdict: dsl.Artifact


def build_pipeline(placement: Placement | None = None, target: str = "kserve") -> BaseComponent:
    """The pipeline as a KFP component, for a cluster with `placement`, else for kfp.local.

    `target` is where its deploy step deploys, `kserve` or `local`.
    """
    default_pool = (placement or Placement()).default_pool

    def bin_counter(
        source: str = "s3://aft-vbi-pds",
        snapshot: str = "",
        pruned: str = "",
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
        tune: bool = DEFAULT.tune,
        trials: int = DEFAULT.trials,
        champion: str = "",
        run: str = "",
        only_news: bool = False,
        margin: float = DEFAULT.margin,
        force: bool = DEFAULT.force,
        deploy_options: str = "{}",
        data_uri: str = DEFAULT.data_uri,
        models_uri: str = DEFAULT.models_uri,
        pipeline_image: str = reference(PIPELINE_IMAGE),
        train_image: str = reference(TRAIN_IMAGE),
        accelerator_type: str = default_pool.accelerator_type,
        accelerator_count: str = default_pool.accelerator_count,
        gpu_node_selector: dict = default_pool.gpu_node_selector,
        gpu_tolerations: list = default_pool.gpu_tolerations,
        train_cpu: str = default_pool.train_cpu,
        train_memory: str = default_pool.train_memory,
    ) -> Outputs | None:
        pool = GpuPool(accelerator_type, accelerator_count, gpu_node_selector, gpu_tolerations, train_cpu, train_memory)

        def place(task: dsl.PipelineTask, step: str) -> None:
            task.set_container_image(train_image if step in TRAIN_IMAGE_STEPS else pipeline_image)
            # These are about what is so now: a cached step would not look, and would not deploy.
            task.set_caching_options(step not in ("champion", "deploy", "summarise"))
            if placement is not None:
                placement.apply(task, step, pool)

        def choose() -> dsl.PipelineTask:
            task = choose_recipe(
                recipe=recipe, epochs=epochs, image_size=image_size, backbone=backbone, overrides=overrides
            )
            place(task, "choose_recipe")
            return task

        def steps(chosen: dsl.PipelineTask, state: Any, rival: Any, made_from: Any, removals: Any) -> Outputs:
            ingested = ingest_metadata(
                source=source, snapshot=state, limit=limit, max_count=max_count, seed=seed, data_uri=data_uri
            )
            if placement is None:
                ingested.after(chosen)
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
                source=source,
                splits=divided.outputs["splits"],
                data_uri=data_uri,
                max_reject_share=max_reject_share,
                pruned=removals,
            )
            place(fetched, "download")
            training = {
                "shard_index": fetched.outputs["shard_index"],
                "splits": divided.outputs["splits"],
                # Only training takes it: what comes before stays as it is when the recipe changes.
                "recipe": chosen.output,
                "weights": weights,
                "max_count": max_count,
                "seed": seed,
                "data_uri": data_uri,
            }
            training |= choose_by_trials(tune, trials, training, place)._asdict()
            if placement is not None and placement.train_on == "trainjob":
                trained = train_job(**training, **placement.train_job_arguments(train_image, pool))
                place(trained, "train_job")
            else:
                trained = train(**training)
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
                champion=rival,
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
                    run=made_from,
                    models_uri=models_uri,
                    target=target,
                    options=deploy_options,
                    source=source,
                )
                place(deployed, "deploy")
            return Outputs(
                ingest_report=ingested.outputs["report"],
                ingest_rejects=ingested.outputs["rejects"],
                split_report=divided.outputs["report"],
                split_lists=divided.outputs["lists"],
                download_rejects=fetched.outputs["rejects"],
                download_report=fetched.outputs["report"],
                bundle=trained.outputs["bundle"],
                train_report=trained.outputs["report"],
                curves=trained.outputs["curves"],
                metrics=evaluated.outputs["metrics"],
                predictions=evaluated.outputs["predictions"],
                report=evaluated.outputs["report"],
                verdict=judged.outputs["verdict"],
            )

        if placement is None:
            return steps(choose(), snapshot, champion, run, pruned)
        ended = summarise(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, models_uri=models_uri)
        place(ended, "summarise")
        with dsl.ExitHandler(ended, name="run"):
            chosen = choose()
            found = find_champion(
                given=champion,
                snapshot=snapshot,
                only_news=only_news,
                source=source,
                limit=limit,
                max_count=max_count,
                seed=seed,
                validation_share=validation_share,
                test_share=test_share,
                file_lists=file_lists,
                max_reject_share=max_reject_share,
                recipe=recipe,
                epochs=epochs,
                image_size=image_size,
                backbone=backbone,
                weights=weights,
                overrides=overrides,
                tune=tune,
                trials=trials,
                margin=margin,
                force=force,
                deploy_options=deploy_options,
                data_uri=data_uri,
                models_uri=models_uri,
                pipeline_image=pipeline_image,
                train_image=train_image,
            ).after(chosen)
            place(found, "champion")
            with dsl.If(found.outputs["news"] == CHANGED, name="changed"):
                now = found.outputs
                steps(chosen, now["snapshot"], now["version"], now["run"], now["pruned"])
        return None

    # KFP gives out nothing from within an exit handler; on a cluster the artifacts are in the run's page.
    if placement is None:
        bin_counter.__annotations__["return"] = Outputs
    else:
        del bin_counter.__annotations__["return"]
    return dsl.pipeline(name=PIPELINE_NAME, description=DESCRIPTION)(bin_counter)
