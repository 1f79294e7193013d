"""The list of model versions for people."""

from components.core.registry import Deployment, Registry

COLUMNS = ("version", "", "accuracy", "95 % interval", "within one", "RMSE", "backbone", "deployed")


def print_models(models_uri: str) -> None:
    """Print one line a version, newest deployment first, with its figures on the test bins."""
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
    figures = record.figures if record else None
    judged = ("–",) * 4
    if figures:
        low, high = figures.accuracy_ci95
        judged = (
            f"{figures.accuracy:.1%}",
            f"{low:.1%}–{high:.1%}",
            f"{figures.within_one:.1%}",
            f"{figures.rmse:.2f}",
        )
    deployed = record.deployed_at if record else "never"
    return (version, "serving" if serving else "", *judged, registry.info(version).backbone, deployed)
