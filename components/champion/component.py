"""KFP face of champion: which version serves now, asked anew in every run on a cluster."""

from kfp import dsl

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def champion(given: str, models_uri: str) -> str:
    """Return the version to compare with: the one given, or else the one in service; "" for none."""
    from components.core.errors import reported
    from components.core.registry import Registry

    with reported():
        return given or Registry.open(models_uri).serving()
