"""Published weights of a library's networks: found in its own cache, verified, with the preprocessing that they expect."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from cnncodes.core.errors import OptionError, WeightsError, WeightsMissingError
from cnncodes.images.preprocess import crops_of
from cnncodes.weights import load_weights, published
from cnncodes.weights.published import find_published

models = pytest.importorskip("torchvision.models")
NAMES = (
    "resnet50", "convnext_tiny", "vit_b_16", "swin_t", "efficientnet_b0", "efficientnet_v2_s", "mobilenet_v3_large",
    "regnet_y_400mf", "inception_v3", "densenet121", "maxvit_t",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(500, 375), (333, 500)])
def test_pixels_are_those_of_the_librarys_own_transform(name: str, size: tuple[int, int]) -> None:
    transform = models.get_model_weights(name).DEFAULT.transforms()
    record = published.torchvision_preprocessing(transform)
    photo = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    pixels = crops_of(image, record)[0].astype(np.float32)
    mine = (
        torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(record.mean).view(3, 1, 1)
    ) / torch.tensor(record.std).view(3, 1, 1)
    torch.testing.assert_close(mine, transform(image), rtol=1e-5, atol=1e-5)


def test_every_network_of_torchvision_has_an_entry_with_a_digest() -> None:
    for name in models.list_models(module=models):
        entry = find_published("imagenet", f"torchvision/{name}")
        assert entry.preprocessing.crop <= entry.preprocessing.resize and len(entry.sha256_prefix) >= 8, name
    assert find_published("IMAGENET1K_V1", "torchvision/resnet50").top1 == pytest.approx(76.13)
    with pytest.raises(OptionError, match="no weights 'IMAGENET1K_V3'"):
        find_published("IMAGENET1K_V3", "torchvision/resnet50")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Numbers of a resnet18 in torch's cache folder, under the name that their digest gives them."""
    from dataclasses import replace

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    torch.save(state, folder / "made.pth")
    digest = hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()
    path = (folder / "made.pth").rename(folder / f"resnet18-{digest[:8]}.pth")
    real = published.torchvision_weights
    monkeypatch.setattr(
        published,
        "torchvision_weights",
        lambda *given: replace(real(*given), url=f"https://example.org/{path.name}"),
    )
    return path, state


def test_weights_come_from_the_librarys_cache_and_are_verified(cached) -> None:
    path, state = cached
    weights = load_weights("imagenet", network="torchvision/resnet18")
    assert torch.equal(weights.tensors["conv1.weight"], state["conv1.weight"])
    assert weights.name == "imagenet" and len(weights.class_names() or ()) == 1000
    assert path.name in weights.source
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    with pytest.raises(WeightsError, match="is damaged"):
        load_weights("imagenet", network="torchvision/resnet18")


def test_weights_that_are_not_here_are_named_with_file_folder_digest_and_command(cached) -> None:
    path, _ = cached
    path.unlink()
    with pytest.raises(WeightsMissingError) as found:
        load_weights("imagenet", network="torchvision/resnet18")
    text = str(found.value)
    assert all(
        word in text for word in (path.name, str(path.parent), "sha256", "--model torchvision/resnet18")
    )


def test_timm_says_which_repository_is_missing(tmp_path, monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissingError, match=r"huggingface\.co/timm/convnext_tiny"):
        load_weights("imagenet", network="timm/convnext_tiny")
    record = published.timm_preprocessing(timm.get_pretrained_cfg("vit_small_patch14_dinov2.lvd142m"))
    assert (record.resize, record.crop, record.interpolation) == (518, 518, "bicubic")


def test_timms_weights_come_from_hugging_faces_cache(tmp_path, monkeypatch) -> None:
    """The cache's own layout: a repository, what `main` is, and the files of that revision."""
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    name = "mobilenetv3_small_050.lamb_in1k"
    torch.manual_seed(0)
    state = timm.create_model(name, pretrained=False).state_dict()
    folder = tmp_path / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    save_file(state, folder / "snapshots" / ("a" * 40) / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights = load_weights("imagenet", network=f"timm/{name}")
    assert torch.equal(weights.tensors["conv_stem.weight"], state["conv_stem.weight"])
    assert weights.name == "imagenet" and f"huggingface.co/timm/{name}" in weights.source
    assert weights.preprocessing == published.timm_preprocessing(timm.get_pretrained_cfg(name))


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_tiny", "vit_small_patch16_224", "swin_tiny_patch4_window7_224"]
)
@pytest.mark.parametrize("size", [(500, 375), (333, 500)])
def test_pixels_are_those_of_timms_own_transform(name: str, size: tuple[int, int]) -> None:
    timm = pytest.importorskip("timm")
    configuration = timm.get_pretrained_cfg(name)
    options = timm.data.resolve_data_config({}, pretrained_cfg=configuration.to_dict())
    transform = timm.data.create_transform(**options)
    record = published.timm_preprocessing(configuration)
    photo = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(crops_of(image, record)[0].astype(np.float32)).permute(2, 0, 1) / 255
    mine = (pixels - torch.tensor(record.mean).view(3, 1, 1)) / torch.tensor(record.std).view(3, 1, 1)
    torch.testing.assert_close(mine, transform(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["IMAGENET/w.safetensors", "W.SAFETENSORS"])
def test_a_file_in_capitals_is_a_file(name: str, tmp_path) -> None:
    from cnncodes.weights import save_weights

    (tmp_path / "IMAGENET").mkdir()
    weights = load_weights("random:0", network="torchvision/resnet18")
    save_weights(weights, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / name)
    assert load_weights(tmp_path / name, network="torchvision/resnet18").fingerprint == weights.fingerprint


def test_random_weights_of_a_large_input_have_a_preprocessing() -> None:
    record = load_weights("random:0", network="torchvision/inception_v3").preprocessing
    assert (record.resize, record.crop) == (342, 299)
