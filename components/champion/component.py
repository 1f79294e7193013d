"""KFP face of champion: what is so now, asked anew in every run on a cluster."""

from typing import NamedTuple

from kfp import dsl

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def champion(
    given: str,
    snapshot: str,
    only_news: bool,
    source: str,
    limit: int,
    max_count: int,
    seed: int,
    validation_share: float,
    test_share: float,
    file_lists: str,
    max_reject_share: float,
    recipe: str,
    epochs: int,
    image_size: int,
    backbone: str,
    weights: str,
    overrides: str,
    tune: bool,
    trials: int,
    margin: float,
    force: bool,
    deploy_options: str,
    data_uri: str,
    models_uri: str,
    pipeline_image: str,
    train_image: str,
) -> NamedTuple("Found", version=str, snapshot=str, run=str, news=str, pruned=str):  # type: ignore[valid-type]
    """Tell the version to compare with, the source's state, the run's fingerprint, and whether anything is new.

    All that decides what a run makes is an argument, so that the fingerprint holds it. `pruned` counts the
    removals of shards, for download's place in the cache.
    """
    inputs = {name: value for name, value in locals().items() if name not in ("given", "snapshot", "only_news")}
    from dataclasses import astuple
    from typing import NamedTuple

    from components.champion.champion import look
    from components.core.errors import reported

    with reported():
        found = look(given, snapshot, only_news, inputs, models_uri)
    return NamedTuple("Found", version=str, snapshot=str, run=str, news=str, pruned=str)(*astuple(found))  # type: ignore[operator]
