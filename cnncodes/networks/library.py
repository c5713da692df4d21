"""Networks of torchvision and timm: their modules in order as layers, found by one run without numbers.

A layer is what a module gives. The usual ones have short names: the children of the network that hold parameters
(``conv1``, ``layer1`` to ``layer4`` of a ResNet; where one child holds nearly everything, its children), and for every network
``penultimate`` (what its classifier reads) and ``classifier``. Any other module is named by its path: ``layer4.1.conv2``.
"""

from __future__ import annotations

import difflib
import re
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from cnncodes.core.errors import DependencyError, InputSizeError, NetworkError, StageError, nearest
from cnncodes.networks.definitions import LIBRARIES, alexnet
from cnncodes.networks.network import Network, check_classes
from cnncodes.networks.stages import Shape, Stage
from cnncodes.networks.torch_network import TorchNetwork

PENULTIMATE, CLASSIFIER = "penultimate", "classifier"
#: What torchvision's builders want where nothing is loaded: no second classifiers, no slow initialisation.
_BUILDER = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}
MOST = 0.8  # of the modules with parameters before the classifier: what holds so many is looked into
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
_NOT_NUMBERS = "num_batches_tracked"  # counts batches, computes nothing


@dataclass(frozen=True)
class Layer:
    """A named value inside a network."""

    name: str
    path: str  # of its module; of ``penultimate`` the classifier, which reads it, or "" where there is none: all gives it
    shape: Shape  # for one image: (channels, height, width), (tokens, features) or (features,)
    depth: int  # its place in the order of computing
    calls: int = 1  # how often the module is used in one pass; its last value counts
    short: bool = False  # whether it is one of the usual ones
    rectified: bool = False  # whether its values cannot be negative, by the operations that give them


@dataclass(frozen=True)
class LibraryNetwork(Network):
    """A network that a library has built, such as ``torchvision/resnet18``; the record of its layers.

    ``stages`` is empty: there are layers instead, and no arithmetic of ours. ``logits`` are the classes of its classifier.
    """

    logits: int | None = field(default=None, kw_only=True)

    @cached_property
    def _layers(self) -> dict[int, dict[str, Layer]]:
        return {}

    def layers(self, input_size: int | None = None) -> dict[str, Layer]:
        """Every module's value by its path, the short names first; raises InputSizeError."""
        size = input_size or self.input_size
        if size not in self._layers:
            self._layers[size] = _dry_run(self, size)
        return self._layers[size]

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The short names, in order."""
        return tuple(name for name, layer in self.layers().items() if layer.short)

    def stage(self, name: str) -> Stage:
        """There is none: raises NetworkError."""
        raise NetworkError(
            f"network '{self.name}' has layers of the library, and no stages whose arithmetic is known here.",
            "Use one of the networks that are written stage by stage for this, such as alexnet.",
        )

    def select(self, stages: str | Iterable[str]) -> tuple[str, ...]:
        """Names of layers for names, module paths, ranges of short names (``conv1-layer2``, ``layer1-3``), ``all``, ``none``."""
        text = stages if isinstance(stages, str) else ",".join(stages)
        names = [name for part in text.split(",") for name in self._expand(part.strip())]
        return tuple(dict.fromkeys(names))

    def _expand(self, part: str) -> list[str]:
        short, known = self.stage_names, self.layers()
        if part == "none":
            return []
        if part == "all":
            return list(short)
        if part in known:
            return [part]
        first, _, last = part.rpartition("-")
        last = re.sub(r"\d+$", "", first) + last if last.isdigit() else last
        if first in short and last in short:
            start, end = short.index(first), short.index(last)
            if start > end:
                raise StageError(f"the range '{part}' is backwards in {self.name}.", f"Use '{last}-{first}'.")
            return list(short[start : end + 1])
        paths = f"Module paths work, too: 'cnncodes info {self.name} --json' lists them all."
        raise StageError(f"network '{self.name}' has no layer '{part}'.", f"{nearest(part, short)} {paths}")

    def is_rectified(self, stage: str) -> bool:
        return stage in self.layers() and self.layers()[stage].rectified

    def incoming_shapes(self, input_size: int | None = None) -> tuple[Shape, ...]:
        """None: there are no stages."""
        return ()

    def output_shapes(self, input_size: int | None = None) -> dict[str, Shape]:
        return {name: layer.shape for name, layer in self.layers(input_size).items()}

    def tensor_shapes(self) -> dict[str, Shape]:
        model = _on_meta(self.name, self.logits)
        return {key: tuple(value.shape) for key, value in _numbers(model).items()}

    @property
    def parameters(self) -> int:
        return _size(_on_meta(self.name, self.logits))

    @property
    def usual_layer(self) -> str:
        return PENULTIMATE

    @property
    def codes_layers(self) -> tuple[str, ...]:
        return tuple(name for name in self.stage_names if name != CLASSIFIER)

    @property
    def late_layers(self) -> tuple[str, ...]:
        return (PENULTIMATE,)

    def recipe_layers(self, names: str) -> tuple[str, ...]:
        """The layers at the depth of those of AlexNet: its fully connected ones are ``penultimate``, its five blocks of
        convolutions and pools the fifths of the layers before that. Names of this network are taken as they are."""
        try:
            return self.select(names)
        except StageError:
            asked = alexnet().select(names)
        body = [name for name in self.codes_layers if name != PENULTIMATE]

        def like(name: str) -> str:
            if name.startswith("fc"):
                return PENULTIMATE if name != "fc8" else CLASSIFIER
            place = -(-int(re.sub(r"\D", "", name)) * len(body) // 5) - 1
            return body[max(place, 0)]

        return tuple(dict.fromkeys(map(like, asked)))

    @property
    def rectified_layers(self) -> tuple[str, ...]:
        return tuple(name for name in self.codes_layers if self.is_rectified(name))

    @property
    def classes(self) -> int | None:
        return self.logits

    def with_classes(self, classes: int) -> LibraryNetwork:
        check_classes(classes)
        return replace(self, logits=classes)

    def with_ranks(self, ranks: Mapping[str, int | None]) -> LibraryNetwork:
        return self


class LibraryModule(TorchNetwork):
    """The module of a :class:`LibraryNetwork`; its state dict has the library's keys.

    Values of layers are copied when they are taken, so that a later module that works in place cannot change them.
    Several threads may compute at once.
    """

    def __init__(self, network: LibraryNetwork) -> None:
        super().__init__(network)
        self.network: LibraryNetwork = network
        self.model = _build(network.name, network.logits)
        self._hooked: set[str] = set()
        self._lock = threading.Lock()
        self._taking = threading.local()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``[batch, classes]`` of preprocessed pixels."""
        logits: Tensor = self.model(pixels)
        return logits

    def activations(self, pixels: Tensor, stages: str | Iterable[str]) -> dict[str, Tensor]:
        """Values of layers in one pass, which stops after the deepest of them; see ``TorchNetwork.activations``."""
        wanted = self.network.select(stages)
        layers = self.network.layers()
        inside = [layers[name] for name in wanted if not (name == CLASSIFIER or layers[name].path == "")]
        self._hook(inside)
        found: dict[str, Tensor] = {}
        self._taking.found, self._taking.left = found, {layer.name: layer.calls for layer in inside}
        self._taking.whole = len(inside) < len(wanted)
        try:
            whole = self.model(pixels)
            found |= {name: whole for name in wanted if name not in found}
        except _All:
            pass
        finally:
            self._taking.found = None
        return {name: found[name] for name in wanted}

    def classifier_module(self) -> nn.Module:
        return self.model.get_submodule(self.network.layers()[CLASSIFIER].path)

    def _hook(self, layers: Iterable[Layer]) -> None:
        with self._lock:
            for layer in layers:
                if layer.name in self._hooked:
                    continue
                module = self.model.get_submodule(layer.path)
                name = layer.name
                if name == PENULTIMATE:
                    module.register_forward_pre_hook(lambda _, given: self._take(PENULTIMATE, given[0]))
                else:
                    module.register_forward_hook(lambda _, __, value, name=name: self._take(name, value))
                self._hooked.add(name)

    def _take(self, name: str, value: Tensor) -> None:
        found = getattr(self._taking, "found", None)
        if found is None or name not in self._taking.left:
            return
        found[name] = value.clone()
        self._taking.left[name] -= 1
        if not (self._taking.whole or any(self._taking.left.values())):
            raise _All

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Parameters and buffers by the library's keys."""
        return _numbers(self.model)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As the library's module does, without what counts batches."""
        others = {key: value for key, value in self.model.state_dict().items() if not _is_number(key, value)}
        return self.model.load_state_dict({**others, **state_dict}, strict=strict, assign=assign)


class _All(Exception):  # noqa: N818 - not an error
    """Everything that was asked for is there."""


def library_network(name: str, classes: int | None = None) -> LibraryNetwork:
    """The network of a library by its name, such as ``torchvision/resnet18``; raises NetworkError and DependencyError."""
    found = _known(name)
    return found if classes is None else found.with_classes(classes)


@cache
def _known(name: str) -> LibraryNetwork:
    library, _, model = name.partition("/")
    names = list_networks(library)
    if model.partition(".")[0] not in {known.partition(".")[0] for known in names}:
        close = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        remedy = f"{hint}List them with 'cnncodes networks list'."
        raise NetworkError(f"{library} has no network '{model}'.", remedy)
    size = 224
    if library == "timm":
        built: Any = _on_meta(name, None)
        size = int(built.default_cfg["input_size"][-1])
    elif model == "inception_v3":
        size = 299
    network = LibraryNetwork(name, size, ())
    layers = network.layers()
    return replace(network, logits=layers[CLASSIFIER].shape[0] if CLASSIFIER in layers else None)


def list_networks(library: str) -> list[str]:
    """Names of a library's networks for classification; raises NetworkError and DependencyError."""
    if library == "torchvision":
        from torchvision import models

        return list(models.list_models(module=models))
    if library == "timm":
        try:
            import timm
        except ImportError as error:
            raise DependencyError(
                "networks of timm need the library timm, which is not installed.",
                "Run: pip install 'cnncodes[timm]'.",
            ) from error
        return list(timm.list_models()) + list(timm.list_models(pretrained=True))
    remedy = f"Use one of {', '.join(LIBRARIES)}: torchvision/resnet18."
    raise NetworkError(f"there is no library '{library}' of networks.", remedy)


def _build(name: str, logits: int | None) -> nn.Module:
    """The library's module with numbers of its own, where torch's default device is."""
    library, _, model = name.partition("/")
    options: dict[str, Any] = {} if logits is None else {"num_classes": logits}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library == "torchvision":
            from torchvision import models

            built: nn.Module = models.get_model(model, weights=None, **_BUILDER.get(model, {}), **options)
        else:
            import timm

            built = timm.create_model(model, pretrained=False, **options)
    return built.eval()


@cache
def _on_meta(name: str, logits: int | None) -> nn.Module:
    """The module without numbers; with some, where it cannot be built so."""
    try:
        with torch.device("meta"):
            return _build(name, logits)
    except (NotImplementedError, RuntimeError):
        return _build(name, logits)


def _numbers(module: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in module.state_dict().items() if _is_number(key, value)}


def _is_number(key: str, value: Tensor) -> bool:
    """Whether it is a parameter or buffer that training sets: not an index, not a count."""
    return value.is_floating_point() and not key.endswith(_NOT_NUMBERS)


#: Operations of torch whose results are never negative, and those that are not if nothing that enters them is.
_RECTIFY = {"relu", "sigmoid", "hardsigmoid", "softplus", "exp", "abs", "_softmax"}
_KEEP = {
    "add", "mul", "div", "mean", "sum", "amax", "cat", "stack", "clone", "copy", "alias", "detach", "dropout", "native_dropout",
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "slice", "select", "squeeze", "unsqueeze", "roll",
    "split", "split_with_sizes", "unbind",
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "constant_pad_nd",
}  # fmt: skip


class _Signs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is on, ``rectified`` has the values that cannot be negative."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rectified: Any = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        values = [result] if isinstance(result, Tensor) else result
        if isinstance(values, tuple | list) and args:
            name = operation.overloadpacket.__name__
            name = name if name.startswith("_") else name.rstrip("_")
            lowest = args[1] if name in ("hardtanh", "clamp", "clamp_min") and len(args) > 1 else -1
            given = args[0] if isinstance(args[0], list | tuple) else args[:2]
            kept = name in _KEEP and all(self.is_rectified(part) for part in given)
            positive = name in _RECTIFY or kept or (lowest is not None and lowest >= 0)
            self.rectified.update((value, positive) for value in values if isinstance(value, Tensor))
        return result

    def is_rectified(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return bool(self.rectified.get(value, False))
        return not isinstance(value, int | float) or value >= 0


def _dry_run(network: LibraryNetwork, size: int) -> dict[str, Layer]:
    """Every module's value, in the order of computing, for one image of that size."""
    model = _on_meta(network.name, network.logits)
    order: dict[str, tuple[Shape, int, bool]] = {}  # of the last call, how many calls, and whether rectified
    entered: dict[str, tuple[Shape, bool]] = {}
    signs = _Signs()

    def note(path: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.dim() > 1:
            calls = order.pop(path, ((), 0, False))[1] + 1
            order[path] = tuple(value.shape[1:]), calls, signs.is_rectified(value)

    def enter(path: str, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            entered[path] = tuple(given[0].shape[1:]), signs.is_rectified(given[0])

    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path:
                before = module.register_forward_pre_hook(lambda _, given, path=path: enter(path, given))
                after = module.register_forward_hook(lambda _, __, value, path=path: note(path, value))
                stack.enter_context(before)  # removes it
                stack.enter_context(after)
        try:
            # in inference mode operations reach the signs by other names
            with torch.inference_mode(False), torch.no_grad(), signs:
                logits = model(torch.empty(2, 3, size, size, device=next(model.parameters()).device))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["it fails"])[0][:120].rstrip(".")
            raise InputSizeError(
                f"an input of {size} px does not fit network '{network.name}': {reason}.",
                f"Use {network.input_size} px, its usual size.",
            ) from error
    final, count = (tuple(logits.shape[1:]), signs.is_rectified(logits)), len(order)
    last = _classifier(model, order, final[0])
    usual = set(_usual(model, order, last))
    layers = {
        path: Layer(path, path, shape, depth, calls, path in usual, rectified)
        for depth, (path, (shape, calls, rectified)) in enumerate(order.items())
        if path not in (PENULTIMATE, CLASSIFIER)
    }
    for name, (shape, sign) in ((PENULTIMATE, entered[last] if last else final), (CLASSIFIER, final)):
        if last or name == PENULTIMATE:
            depth = count + (name == CLASSIFIER)
            layers[name] = Layer(name, last, shape, depth, short=True, rectified=sign)
    return layers


def _classifier(model: nn.Module, order: Mapping[str, tuple[Shape, int, bool]], logits: Shape) -> str:
    """Path of the last fully connected module or convolution that is computed, if it gives the logits; else ""."""
    for path in reversed([*order]):
        if isinstance(model.get_submodule(path), nn.Linear | nn.Conv2d):
            return path if order[path][0][:1] == logits and len(order[path][0]) in (1, 3) else ""
    return ""


def _usual(model: nn.Module, order: Mapping[str, object], last: str) -> list[str]:
    """Paths of the children that hold parameters; of a child that holds most modules that do, its own children."""
    found: list[str] = []
    head = last.partition(".")[0] if last else None
    body = sum(_count(child) for name, child in model.named_children() if name != head)

    def look(prefix: str, module: nn.Module) -> None:
        for name, child in module.named_children():
            path = f"{prefix}{name}"
            inside = last.startswith(f"{path}.")
            large = _count(child) > MOST * body and len(list(child.children())) > 1
            if inside or (large and path != head) or (path not in order and _size(child)):
                look(f"{path}.", child)
            elif _size(child) and path != last and path in order and not isinstance(child, _NORMS):
                found.append(path)

    look("", model)
    return found


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count(module: nn.Module) -> int:
    """Modules with parameters of their own."""
    return sum(any(True for _ in part.parameters(recurse=False)) for part in module.modules())
