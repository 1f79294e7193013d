"""What a run is up against: what its source holds now, which version serves, and whether the two belong together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.core.pruned import times_pruned
from components.core.recounts import read_labels
from components.core.registry import Registry
from components.core.run import CHANGED, UNCHANGED, fingerprint
from components.core.source import Source
from components.core.store import open_store


@dataclass(frozen=True)
class Found:
    """`version` is what to compare with ("" for none), `run` the fingerprint of all that this run is made from.

    `pruned` counts the removals of shards so far.
    """

    version: str
    snapshot: str
    run: str
    news: str
    pruned: str


def look(given: str, snapshot: str, only_news: bool, inputs: Mapping[str, Any], models_uri: str) -> Found:
    """Look at the source and the registry. With `only_news` it tells when the version in service is of these inputs.

    `given` names the version to compare with, and `snapshot` the state of source and recounts, for those who know
    them; `inputs` are the parameters and images that decide what a run makes, the source among them. Raises UserError
    for a source or a store that cannot be read.
    """
    if not snapshot:
        labels = read_labels(open_store(inputs["data_uri"]))
        snapshot = labels.named(Source.parse(inputs["source"]).snapshot())
    run = fingerprint({**inputs, "snapshot": snapshot})
    registry = Registry.open(models_uri)
    current = registry.current()
    unchanged = current is not None and current.run == run
    version = given or registry.champion_for(run)
    print(f"source: {snapshot}; in service: {current.told() if current else 'none'}", flush=True)
    if unchanged:
        print("The version in service was made from the same source, parameters and images.", flush=True)
    news = UNCHANGED if unchanged and only_news else CHANGED
    return Found(version, snapshot, run, news, times_pruned(inputs["data_uri"]))
