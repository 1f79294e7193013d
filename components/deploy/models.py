"""The list of model versions for people."""

from components.core.registry import Deployment, Registry
from components.deploy.export import kind_of_data

COLUMNS = (
    "version", "", "accuracy", "95 % interval", "baseline", "within one", "RMSE",
    "recipe", "backbone", "data", "photos", "seed", "gate", "deployed",
)  # fmt: skip
_DATA_WIDTH = 36


def print_models(models_uri: str) -> None:
    """Print one line a version, newest deployment first: figures on the test bins, and what it was made from."""
    registry = Registry.open(models_uri)
    newest = {record.version: record for record in registry.deployments()}
    serving = registry.serving()
    versions = sorted(registry.versions(), key=lambda one: newest[one].number if one in newest else 0, reverse=True)
    if not versions:
        print(f"There are no versions in {models_uri} yet; `make pipeline` publishes the first.")
        return
    rows = [_row(registry, version, newest.get(version), version == serving) for version in versions]
    widths = [max(len(row[column]) for row in [COLUMNS, *rows]) for column in range(len(COLUMNS))]
    for row in [COLUMNS, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(registry: Registry, version: str, record: Deployment | None, serving: bool) -> tuple[str, ...]:
    info = registry.info(version)
    figures = record.figures if record else None
    judged = ("–",) * 5
    if figures:
        low, high = figures.accuracy_ci95
        judged = (
            f"{figures.accuracy:.1%}",
            f"{low:.1%}–{high:.1%}",
            f"{figures.baseline_accuracy:.1%}",
            f"{figures.within_one:.1%}",
            f"{figures.rmse:.2f}",
        )
    data = kind_of_data(record.source)[-_DATA_WIDTH:] if record else ""
    return (
        version,
        "serving" if serving else "",
        *judged,
        info.recipe,
        info.backbone,
        data or f"digest {info.data_fingerprint[:8]}",
        f"{info.training_images:,}",
        str(info.seed),
        "–" if record is None or record.forced is None else "forced" if record.forced else "passed",
        record.deployed_at if record else "never",
    )
