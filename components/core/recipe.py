"""Recipes: everything that decides how a model is trained, as one typed config each, and the one rule that chooses.

Every door to a training calls `choose_recipe`: `make pipeline` and `make submit` before anything is sent, the first
step of the DAG for runs that were made elsewhere, and the steps that are run by hand. No door needs torch for it.
"""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.core.backbones import BackboneEntry, find_backbone
from components.core.defaults import BACKBONE
from components.core.errors import UserError
from components.core.validation import first_problem

RecipeName = Literal["original", "frozen", "finetune", "best"]
SMALLEST_SIZE, LARGEST_SIZE = 32, 1024  # of photos, in pixels
MOST_EPOCHS = 10_000


class Recipe(BaseModel):
    """One way to train. Every field can be overridden by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: RecipeName
    backbone: str = Field(min_length=1)
    image_size: int = Field(ge=SMALLEST_SIZE, le=LARGEST_SIZE)
    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    minimum_steps: int = Field(default=0, ge=0, description="on little data, epochs are added up to this many steps")
    batch_size: int = Field(default=32, ge=1, le=65_536)
    train_backbone: bool = Field(description="train all layers; false trains the head on features computed once")
    batch_norm: Literal["train", "frozen"] = "frozen"
    training_scale: float = Field(
        default=1.0, gt=0, le=1, description="size in the later epochs as a share of image_size"
    )
    small_epochs_share: float = Field(default=0.0, ge=0, le=0.9, description="share of the epochs at a smaller size")
    small_scale: float = Field(default=0.6, gt=0, le=1, description="the smaller size as a share of image_size")

    optimiser: Literal["adadelta", "sgd", "adamw"] = "adamw"
    learning_rate: float = Field(gt=0, le=100)
    backbone_rate: float = Field(default=1.0, gt=0, le=1, description="the backbone's learning rate as a share")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_share: float = Field(default=0.0, ge=0, lt=1, description="share of all steps")
    clip_norm: float = Field(default=0.0, ge=0, description="largest gradient norm; 0 is no limit")

    loss: Literal["cross_entropy", "soft_labels", "cumulative"] = "cross_entropy"
    soft_label_width: float = Field(default=0.7, gt=0, le=10, description="standard deviation in items")
    class_weighting: bool = False
    use_extra: bool = Field(default=False, description="also learn from bins with 0 or more than max_count items")
    compare_extra: bool = Field(
        default=False, description="train once more without the extra bins, to report whether they helped"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    standardise: bool = Field(default=False, description="bring frozen features to mean 0 and deviation 1")
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="0 is off")
    early_stopping: int = Field(default=0, ge=0, description="epochs without a lower validation loss; 0 is off")

    flip: bool = False
    shift: float = Field(default=0.0, ge=0, le=0.5, description="largest shrink, the photo moving in what it leaves")
    rotation: float = Field(default=0.0, ge=0, le=45, description="largest turn in degrees, shrunk so that all stays")
    brightness: float = Field(default=0.0, ge=0, le=0.9, description="largest relative change, also of contrast")

    mirrored: bool = Field(
        default=False, description="answer by the photo and its mirror image together, at twice the work a photo"
    )

    autocast: Literal["auto", "bf16", "f32"] = "f32"
    features: Literal["auto", "bf16", "f32"] = Field(
        default="auto", description="of a frozen backbone on a CPU; auto is bf16 where it is native"
    )
    serving: Literal["f32", "best"] = Field(default="best", description="best tries bf16 and int8 on validation")

    @model_validator(mode="after")
    def _fields_that_go_together(self) -> Self:
        if not self.train_backbone and (self.flip or self.shift or self.rotation or self.brightness):
            raise ValueError("augmentation needs train_backbone, because frozen features are computed once")
        if self.mirrored and not self.train_backbone:
            raise ValueError("mirrored needs train_backbone, because frozen features are those of the photo as it is")
        if self.compare_extra and not self.use_extra:
            raise ValueError("compare_extra needs use_extra, because it compares with training without the extra bins")
        return self

    def size_at(self, epoch: int, epochs: int) -> int:
        """Height and width of the photos in an epoch, counted from 0, of so many: a multiple of 32, or image_size.

        Photos are smaller in the first epochs, which are for the coarse things. They also stay below the size that is
        served: networks do better on photos somewhat larger than those they were trained on (Touvron et al., Fixing the
        train-test resolution discrepancy, 2019).
        """
        small = epoch < round(self.small_epochs_share * epochs)
        return self._scaled(self.small_scale if small else self.training_scale)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every size that the network sees, rising: in training, and when it serves."""
        if not self.train_backbone:
            return (self.image_size,)
        scales = (self.training_scale, *([self.small_scale] if self.small_epochs_share else []))
        return tuple(sorted({self.image_size, *(self._scaled(scale) for scale in scales)}))

    def _scaled(self, scale: float) -> int:
        return self.image_size if scale == 1 else max(32, round(self.image_size * scale / 32) * 32)


_ORIGINAL = Recipe(
    name="original",
    backbone="resnet18",
    image_size=224,
    epochs=10,
    train_backbone=False,
    optimiser="adadelta",
    learning_rate=0.05,
    schedule="constant",
    serving="f32",
)
_FROZEN = Recipe(
    name="frozen",
    backbone=BACKBONE,
    image_size=224,
    epochs=15,
    batch_size=128,
    train_backbone=False,
    learning_rate=1e-3,
    weight_decay=0.05,
    warmup_share=0.05,
    loss="soft_labels",
    soft_label_width=1.0,
    dropout=0.5,
    standardise=True,
)
_FINETUNE = Recipe(
    name="finetune",
    backbone=BACKBONE,
    image_size=208,
    training_scale=0.92,
    epochs=10,
    small_epochs_share=0.5,
    train_backbone=True,
    learning_rate=1e-3,
    weight_decay=0.05,
    warmup_share=0.1,
    clip_norm=5.0,
    loss="soft_labels",
    use_extra=True,
    dropout=0.2,
    ema_decay=0.998,
    flip=True,
    shift=0.1,
    brightness=0.2,
    autocast="auto",
)
_BEST = _FINETUNE.model_copy(update={"name": "best", "mirrored": True})
RECIPES = {recipe.name: recipe for recipe in (_ORIGINAL, _FROZEN, _FINETUNE, _BEST)}


def choose_recipe(name: str, epochs: int = 0, image_size: int = 0, backbone: str = "", overrides: str = "{}") -> Recipe:
    """The named recipe with fields replaced: 0 and "" keep the recipe's own; `overrides` is a JSON object of fields.

    Raises UserError for an unknown name, field or backbone, for a value out of its range, for overrides that contradict
    what was given by name, and for a backbone that takes one size only where the recipe needs another.
    """
    if name not in RECIPES:
        raise UserError(f"There is no recipe '{name}'; choose one of {', '.join(RECIPES)}.")
    by_name = {"epochs": epochs, "image_size": image_size, "backbone": backbone}
    given = {field: value for field, value in by_name.items() if value}
    fields = _read_overrides(overrides)
    for field, value in given.items():
        if field in fields and fields[field] != value:
            raise UserError(
                f"{field.upper()}={value} and {json.dumps({field: fields[field]})} in OVERRIDES contradict each other; "
                "give one of them."
            )
    recipe = _validated(RECIPES[name].model_dump() | given | fields)
    _check_sizes(recipe, find_backbone(recipe.backbone))
    return recipe


def read_recipe(text: str) -> Recipe:
    """A whole recipe from the JSON that `Recipe.model_dump_json` wrote. Raises UserError for anything else."""
    return _validated(_json_object(text, "The recipe cannot be read", "give JSON as the step choose_recipe writes it."))


def with_fields(recipe: Recipe, fields: dict[str, Any]) -> Recipe:
    """A recipe with some fields replaced. Raises UserError for a value that cannot be."""
    return _validated(recipe.model_dump() | fields)


def _read_overrides(text: str) -> dict[str, Any]:
    fields = _json_object(
        text or "{}", "The overrides are not a JSON object", 'write fields of a recipe like {"learning_rate": 0.01}.'
    )
    if "name" in fields:
        raise UserError("The overrides cannot hold a recipe's name; choose it by RECIPE.")
    return fields


def _json_object(text: str, complaint: str, advice: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{complaint} ({error}); {advice}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{complaint}; {advice}")
    return fields


def _validated(fields: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(fields)
    except ValidationError as error:
        problem = first_problem(error)
        field = problem.where
        if problem.unknown:
            raise UserError(f"A recipe has no field '{field}'; it has {', '.join(Recipe.model_fields)}.") from error
        given = f"{field}={problem.value} is refused: " if field else ""
        raise UserError(f"The recipe cannot be used: {given}{problem.message}.") from error


def _check_sizes(recipe: Recipe, backbone: BackboneEntry) -> None:
    fixed = backbone.fixed_size
    if fixed is None or recipe.sizes == (fixed,):
        return
    sizes = ", ".join(str(size) for size in recipe.sizes)
    constant = {"training_scale": 1, "small_epochs_share": 0} if len(recipe.sizes) > 1 else {}
    advice = f" OVERRIDES='{json.dumps(constant)}'" if constant else ""
    raise UserError(
        f"The backbone '{recipe.backbone}' takes photos of {fixed} px only, and this recipe shows it {sizes} px; "
        f"add IMAGE_SIZE={fixed}{advice}, or take another backbone."
    )
