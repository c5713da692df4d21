"""Networks of torchvision: the values of layers, their names, and that nothing depends on what else is asked."""

from __future__ import annotations

import pytest
import torch

from cnncodes.core.errors import InputSizeError, NetworkError, StageError
from cnncodes.networks import get_network, library
from cnncodes.networks.library import LibraryModule
from cnncodes.weights import build_network, load_weights

#: And the side of an input, smaller than their own where they take it.
NETWORKS = {
    "resnet18": 64, "vit_b_32": 224, "swin_t": 64, "mobilenet_v3_small": 64, "densenet121": 64,
    "googlenet": 64, "squeezenet1_1": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def resnet():
    return load_weights("random:0", network="torchvision/resnet18")


def hooked(module: LibraryModule, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a plain hook with a clone sees of every module: the last value of each."""
    found: dict[str, torch.Tensor] = {}

    def keep(path: str):  # type: ignore[no-untyped-def]
        def hook(_, given, value) -> None:  # type: ignore[no-untyped-def]
            if isinstance(value, torch.Tensor):
                found[path] = value.clone()

        return hook

    handles = [part.register_forward_hook(keep(path)) for path, part in module.model.named_modules() if path]
    module.model(pixels)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_what_a_plain_hook_sees_alone_and_together(name: str) -> None:
    torch.manual_seed(0)
    network = get_network(f"torchvision/{name}")
    module = LibraryModule(network).eval()
    pixels = torch.randn(1, 3, NETWORKS[name], NETWORKS[name])
    with torch.inference_mode():
        plain = hooked(module, pixels)
        together = module.activations(pixels, ",".join(network.layers()))
        assert torch.equal(together["classifier"], module(pixels))
        wrong = [layer for layer in together if network.is_rectified(layer) and (together[layer] < 0).any()]
        assert wrong == []
        layers = list(network.layers())
        for layer in {*network.stage_names[::4], *layers[:: len(layers) // 3], "penultimate"}:
            alone = module.activations(pixels, layer)[layer]
            assert torch.equal(alone, together[layer]), layer
            assert tuple(alone.shape[1:]) == network.output_shapes(NETWORKS[name])[layer], layer
    for path, value in plain.items():
        if path in together and path not in ("penultimate", "classifier"):
            assert torch.equal(together[path], value), path


def test_layers_of_a_resnet_have_the_names_of_the_paper() -> None:
    network = get_network("torchvision/resnet18")
    assert network.stage_names == (
        "conv1", "layer1", "layer2", "layer3", "layer4", "penultimate", "classifier",
    )  # fmt: skip
    assert network.select("conv1-layer2") == ("conv1", "layer1", "layer2")
    assert network.select("layer1-3,layer4.1.conv2") == ("layer1", "layer2", "layer3", "layer4.1.conv2")
    assert network.output_shapes()["penultimate"] == (512,)
    assert network.is_rectified("layer4") and not network.is_rectified("layer4.1.conv2")
    assert network.is_rectified("penultimate") and not network.is_rectified("classifier")
    assert network.output_shapes(64)["layer4"] == (512, 2, 2)


def test_what_is_rectified_is_known_without_numbers(monkeypatch) -> None:
    """A network of gigabytes must be described on any machine, and first weights of zero rectify nothing."""
    monkeypatch.setattr(library, "LibraryModule", None)
    shuffled = get_network("torchvision/shufflenet_v2_x0_5")
    assert shuffled.is_rectified("stage3") and not shuffled.is_rectified("stage3.0.branch1.0")
    assert not get_network("torchvision/vit_b_16").rectified_layers
    assert not get_network("torchvision/densenet121").is_rectified("features.denseblock1.denselayer1.norm1")


@pytest.mark.parametrize("wrong", ["layer5", "fc7", "layer1:linear", "layer4-1"])
def test_a_layer_that_is_not_there_is_an_error_with_the_nearest(wrong: str) -> None:
    with pytest.raises(StageError, match="resnet18"):
        get_network("torchvision/resnet18").select(wrong)


@pytest.mark.parametrize(
    "wrong", ["torchvision/resnet19", "torchvision/", "keras/resnet50", "torchvision/fcn_resnet50"]
)
def test_a_network_that_is_not_there_is_an_error(wrong: str) -> None:
    with pytest.raises(NetworkError):
        get_network(wrong)


def test_what_needs_stages_says_so() -> None:
    with pytest.raises(NetworkError, match="no stages"):
        get_network("torchvision/resnet18").stage("layer1")


def test_an_input_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(InputSizeError, match="vit_b_32"):
        get_network("torchvision/vit_b_32").output_shapes(200)


def test_random_weights_are_the_same_everywhere_and_give_sound_values(resnet) -> None:
    assert resnet.fingerprint == "64ca7d94749c" + resnet.fingerprint[12:]
    assert "bn1.running_var" in resnet.tensors and "bn1.num_batches_tracked" not in resnet.tensors
    with torch.inference_mode():
        found = build_network(resnet).activations(torch.randn(2, 3, 64, 64), "all")
    for name, value in found.items():
        assert torch.isfinite(value).all() and 1e-3 < value.std() < 1e3, name


def test_buffers_are_part_of_the_fingerprint(resnet) -> None:
    from dataclasses import replace

    changed = dict(resnet.tensors) | {"bn1.running_mean": resnet.tensors["bn1.running_mean"] + 1}
    assert replace(resnet, tensors=changed).fingerprint != resnet.fingerprint


def test_a_saved_network_comes_back_and_torchvision_reads_its_numbers(resnet, tmp_path) -> None:
    from torchvision import models

    from cnncodes.weights import read_tensors, save_weights

    save_weights(resnet, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    assert again.network == "torchvision/resnet18" and again.fingerprint == resnet.fingerprint
    theirs = models.resnet18()
    missing, unexpected = theirs.load_state_dict(read_tensors(tmp_path / "w.safetensors")[0], strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing) and not unexpected
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs.eval()(pixels), build_network(again)(pixels), rtol=1e-4, atol=1e-3)


def test_several_threads_do_not_mix_their_values(resnet) -> None:
    from concurrent.futures import ThreadPoolExecutor

    module = build_network(resnet)
    images = [torch.full((1, 3, 64, 64), float(value)) for value in range(6)]
    with torch.inference_mode():
        alone = [module.activations(image, "layer2,penultimate") for image in images]

    def ask(image: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return module.activations(image, "layer2,penultimate")

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, images * 3))
    for one, many in zip(alone * 3, together, strict=True):
        assert all(torch.equal(one[name], many[name]) for name in one)
