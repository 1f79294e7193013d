"""A version in a folder of its own: to serve it, or to give it away with a card that says what it is."""

from pathlib import Path

from components.core.bundle import BundleInfo, bundle_version
from components.core.errors import UserError
from components.core.files import folder_whole, write_whole
from components.core.layout import PUBLIC_SOURCE_BUCKET
from components.core.registry import Deployment, Registry

CARD = "MODEL_CARD.md"
DRAWN, PUBLIC = "drawn", "public"


def fetch_version(models_uri: str, version: str, folder: Path) -> Path:
    """The folder of a version, of the one in service where none is named; fetched only if it is not there yet.

    Raises UserError when there is no such version, or none in service.
    """
    registry = Registry.open(models_uri)
    version = version or _in_service(registry)
    place = folder / version
    if not _is_whole(place, version):
        with folder_whole(place) as staged:
            registry.fetch(version, staged)
    return place


def export_version(models_uri: str, version: str, folder: Path) -> Path:
    """The same with a model card in it; a bundle with a card is served like any other."""
    place = fetch_version(models_uri, version, folder)
    registry = Registry.open(models_uri)
    known = [record for record in registry.deployments() if record.version == place.name]
    write_whole(place / CARD, model_card(place.name, registry.info(place.name), known[-1] if known else None))
    return place


def kind_of_data(source: str) -> str:
    """`drawn`, `public`, or the address itself of somebody's own bins, by the address that a run read them from."""
    if "/generated-" in source:
        return DRAWN
    return PUBLIC if PUBLIC_SOURCE_BUCKET in source else source


def model_card(version: str, info: BundleInfo, record: Deployment | None) -> str:
    """Markdown: what the model does, from which data and licence, its figures, and what it is not good for."""
    figures = record.figures if record else None
    lines = [
        f"# bin-counter {version}",
        "",
        f"Counts 1 to {info.max_count} items in a photo of a bin"
        + (", and tells how likely it holds none or more." if info.has_out_of_range else "."),
        "",
        "## What it is",
        "",
        f"- backbone {info.backbone} at {info.image_size} × {info.image_size} pixels",
        f"- recipe {info.recipe}, seed {info.seed}",
        f"- first weights: {info.initial_weights or 'not recorded'}",
        f"- trained on {info.training_images:,} photos (digest of the data {info.data_fingerprint[:12]})",
        "",
        "## Data and licence",
        "",
        _told_of_data(record.source if record else ""),
        "",
        "## Figures",
        "",
    ]
    if figures:
        low, high = figures.accuracy_ci95
        lines += [
            f"On {figures.n_test:,} test photos that training never saw: accuracy {figures.accuracy:.1%} (95 % "
            f"interval {low:.1%} to {high:.1%}), always answering the commonest count "
            f"{figures.baseline_accuracy:.1%}, within one {figures.within_one:.1%}, RMSE {figures.rmse:.2f}.",
        ]
    else:
        lines += ["It was never put into service, so no figures on test photos are recorded."]
    if record and record.forced:
        lines += ["", "**The gate refused this model; it went into service because that was forced.**"]
    lines += [
        "",
        "## Limits",
        "",
        "- It knows bins like those it was trained on; another camera, light or kind of bin may be counted much worse.",
        "- Hidden items cannot be seen; a count is a guess with a probability, not a measurement.",
        "- Counts beyond its range are never answered, only told as out of range.",
        "",
    ]
    return "\n".join(lines)


def _told_of_data(source: str) -> str:
    kind = kind_of_data(source)
    if kind == DRAWN:
        return (
            "Drawn bins: pictures made by this project's own code. **No real photo was seen; it is a demonstration.**"
        )
    if kind == PUBLIC:
        return (
            "Real photos: the Amazon Bin Image Dataset of Amazon, under CC BY-NC-SA 3.0 US (not for commercial use); "
            "judge by that licence what this model may be used for."
        )
    return (
        f"Photos from {kind}; their owner decides what this model may be used for."
        if kind
        else "Where its photos come from was not recorded."
    )


def _in_service(registry: Registry) -> str:
    version = registry.serving()
    if not version:
        raise UserError(
            "No model is in service yet; run `make pipeline`, or serve a trained one that the gate refused with "
            "MODEL=.local/latest/model."
        )
    return version


def _is_whole(folder: Path, version: str) -> bool:
    try:
        return bundle_version(folder) == version
    except UserError:
        return False
