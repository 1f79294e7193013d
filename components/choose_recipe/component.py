"""KFP face of choose_recipe: the first step, so that a recipe that cannot be used costs nothing but a minute."""

from kfp import dsl

from components.core.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def choose_recipe(recipe: str, epochs: int, image_size: int, backbone: str, overrides: str) -> str:
    """Return JSON of the whole recipe; 0 and "" leave a field to the recipe, `overrides` is JSON of fields."""
    from components.core.errors import reported
    from components.core.recipe import choose_recipe

    with reported():
        return choose_recipe(recipe, epochs, image_size, backbone, overrides).model_dump_json()
