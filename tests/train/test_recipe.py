"""The one rule that chooses a recipe, as every door calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.choose_recipe.component import choose_recipe as step
from components.core.backbones import LISTED, find_backbone
from components.core.errors import UserError
from components.core.recipe import RECIPES, RecipeName, choose_recipe, read_recipe

ROOT = Path(__file__).parent.parent.parent
CONSTANT = '{"training_scale": 1, "small_epochs_share": 0}'


def test_no_door_needs_torch() -> None:
    code = (
        "import sys; from pipeline import inputs, parameters; from components.core.recipe import choose_recipe;"
        "choose_recipe('frozen', backbone='convnext_tiny'); assert not {'torch', 'timm', 'kfp'} & set(sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("field", "value"), [("epochs", 3), ("image_size", 96), ("backbone", "resnet18")])
def test_overrides_that_contradict_what_was_given_by_name_are_refused(field: str, value: Any) -> None:
    other = {"epochs": 4, "image_size": 64, "backbone": "resnet34"}[field]
    with pytest.raises(UserError, match=f"{field.upper()}={value} and .* contradict each other"):
        choose_recipe("frozen", **{field: value}, overrides=json.dumps({field: other}))
    assert getattr(choose_recipe("frozen", **{field: value}, overrides=json.dumps({field: value})), field) == value


@pytest.mark.parametrize("name", RECIPES)
def test_a_chosen_recipe_is_the_same_when_it_is_read_again(name: str) -> None:
    chosen = choose_recipe(name, 7, overrides='{"learning_rate": 0.0123}')
    assert read_recipe(chosen.model_dump_json()) == chosen
    assert read_recipe(step.python_func(name, 7, 0, "", '{"learning_rate": 0.0123}')) == chosen


@pytest.mark.parametrize("text", ["", "frozen", "[]", '{"name": "frozen"}', '{"name": "frozen", "rate": 1}'])
def test_what_is_no_recipe_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_recipe(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_the_sizes_of_a_recipe_are_all_that_an_epoch_has(name: RecipeName) -> None:
    recipe = RECIPES[name]
    seen = {recipe.size_at(epoch, recipe.epochs) for epoch in range(recipe.epochs)}
    assert set(recipe.sizes) == seen | {recipe.image_size}


@pytest.mark.parametrize(
    ("name", "size", "overrides", "sizes"),
    [
        ("finetune", 0, "{}", "128, 192, 208 px"),
        ("frozen", 64, "{}", "64 px"),
        ("finetune", 192, CONSTANT, "192 px"),
    ],
)
def test_a_network_of_one_size_is_refused_with_any_other(name: str, size: int, overrides: str, sizes: str) -> None:
    with pytest.raises(UserError, match=rf"takes photos of 224 px only, and this recipe shows it {sizes}"):
        choose_recipe(name, 0, size, "vit_tiny_patch16_224", overrides)


def test_what_the_refusal_of_a_size_advises_is_accepted() -> None:
    with pytest.raises(UserError) as caught:
        choose_recipe("finetune", backbone="vit_tiny_patch16_224")
    advice = re.search(r"IMAGE_SIZE=(\d+) OVERRIDES='(.*?)'", str(caught.value))
    assert advice is not None
    assert choose_recipe("finetune", 0, int(advice[1]), "vit_tiny_patch16_224", advice[2]).sizes == (224,)


def test_names_may_carry_the_tag_of_their_weights() -> None:
    assert find_backbone("vit_tiny_patch16_224.augreg_in21k").fixed_size == 224
    with pytest.raises(UserError, match=r"no weights 'mine'.*it has augreg_in21k"):
        find_backbone("vit_tiny_patch16_224.mine")


def test_the_table_of_timms_models_is_that_of_the_timm_that_is_installed() -> None:
    from components.train.network.timm_models import TABLE, as_csv

    told = "run python -m components.train.network.timm_models"
    assert TABLE.read_text(encoding="utf-8") == as_csv(), told


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite1"])
def test_each_library_builds_a_network_without_its_classifier(name: str) -> None:
    import torch

    from components.train.network.backbones import create_backbone

    backbone = create_backbone(name, "random")
    assert (backbone.mean, backbone.std) == (LISTED[name].mean, LISTED[name].deviation)
    with torch.no_grad():
        assert backbone.network.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, backbone.features)
