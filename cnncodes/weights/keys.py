"""The network of a set of tensors: found by keys and shapes, or an error that names the differences."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cnncodes.core.errors import WeightsMismatchError
from cnncodes.networks import NETWORKS, Linear, Network, Shape, get_network
from cnncodes.weights.content import first_of

MOST_HEADS = 100  # layers of a file that may be ignored because nothing that is used reads them
INSIDE = (".module.", "._orig_mod.")  # DataParallel and torch.compile put these inside a key


@dataclass(frozen=True)
class LeftOut:
    """Tensors of a file that its network does not use, and stages of the network that the file lacks."""

    tensors: Mapping[str, Shape]  # of a last layer by another name, or of other modules
    stages: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence; empty if nothing is left out."""
        lacking = f"the file has no weights for {', '.join(self.stages)}: these layers cannot be computed"
        unused = [f"{key[:80]} ({_text(shape)})" for key, shape in self.tensors.items()]
        parts = lacking if self.stages else "", _part(unused, "tensor is not used", "tensors are not used")
        return "; ".join(filter(None, parts))


@functools.cache
def _known_keys() -> frozenset[str]:
    networks = [get_network(name) for name in NETWORKS]
    linear = [stage.prefix for network in networks for stage in network.stages if isinstance(stage, Linear)]
    factors = {f"{prefix}.{end}" for prefix in linear for end in ("left", "right")}
    return frozenset(key for network in networks for key in network.tensor_shapes()) | factors


def unwrapped(
    keys: Iterable[str], name: str, network: str | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The keys of a network by their names without the prefix of what wraps it (``module.``), and the keys of other modules.

    Raises WeightsMismatchError if there are several networks.
    """
    known = frozenset(get_network(network).tensor_shapes()) if network and "/" in network else _known_keys()
    plain = {
        functools.reduce(lambda text, wrapper: text.replace(wrapper, "."), INSIDE, key): key for key in keys
    }
    found = Counter(prefix for text in plain if (prefix := _prefix(text, known)) is not None).most_common(2)
    if len(found) == 2 and found[0][1] == found[1][1]:
        raise WeightsMismatchError(
            f"'{name}' holds two networks: keys begin with '{found[0][0]}' and '{found[1][0]}'.",
            "Save one of them to a file of its own: torch.save(model.state_dict(), FILE).",
        )
    prefix = found[0][0] if found else ""
    names = {text.removeprefix(prefix): key for text, key in plain.items() if text.startswith(prefix)}
    return names, tuple(key for text, key in plain.items() if not text.startswith(prefix))


def _prefix(key: str, known: frozenset[str]) -> str | None:
    """What stands before the longest ending of a key that some network has; None if no network has any."""
    start = 0
    while key[start:] not in known:
        start = key.find(".", start) + 1
        if not start:
            return None
    return key[:start]


def fit_network(
    shapes: Mapping[str, Shape], name: str, *, network: str | None = None, hints: Sequence[str] = ()
) -> Network:
    """The network with these tensors, its classifier as wide as the last of them; see :func:`left_out` for the rest.

    It ends before the first fully connected stage that the tensors do not have, or have in another shape. Other tensors are
    allowed if they can only be another classifier. ``name`` is for messages; ``hints`` (a file's name, a name in it) choose
    among networks of equal shapes. Raises WeightsMismatchError if the tensors are of another network, or no hint decides.
    """
    if network and "/" in network:
        return _library_network(network, shapes, name)

    def agreement(candidate: Network) -> tuple[int, int]:
        """Tensors with the right key and shape, then those with the right key."""
        wanted = candidate.tensor_shapes()
        return len(wanted.items() & shapes.items()), len(wanted.keys() & shapes.keys())

    candidates = [_sized(get_network(known), shapes) for known in ([network] if network else NETWORKS)]
    cuts = [cut for candidate in candidates if (cut := _cut_to_fit(candidate, shapes)) is not None]
    most = max((len(cut.tensor_shapes()) for cut in cuts), default=0)
    fitting = {cut.name: cut for cut in cuts if len(cut.tensor_shapes()) == most}
    if not fitting:
        raise _mismatch(max(candidates, key=agreement), shapes, name)
    named = {known for known in fitting for hint in hints if known in hint.lower()}
    if len(fitting) > 1 and len(named) != 1:
        first = next(iter(fitting))
        raise WeightsMismatchError(
            f"the tensors of '{name}' fit {len(fitting)} networks, which differ in their normalisation: "
            f"{', '.join(fitting)}.",
            f"Say which one it is: --model {first} on the command line, network='{first}' in Python.",
        )
    return fitting[named.pop()] if len(fitting) > 1 else next(iter(fitting.values()))


def _library_network(network: str, shapes: Mapping[str, Shape], name: str) -> Network:
    """The library's network with the classes of the tensors; raises WeightsMismatchError if any other tensor differs."""
    found = get_network(network)
    key = next(reversed([key for key in found.tensor_shapes() if key.endswith(".weight")]), "")
    if found.classes and (last := shapes.get(key)) and last[0] != found.classes:
        found = found.with_classes(last[0])
    if any(shapes.get(key) != shape for key, shape in found.tensor_shapes().items()):
        raise _mismatch(found, shapes, name)
    return found


def left_out(network: Network, shapes: Mapping[str, Shape]) -> LeftOut:
    """Tensors that a network of :func:`fit_network` does not use, and stages that it lacks."""
    wanted, whole = network.tensor_shapes(), network if "/" in network.name else get_network(network.name)
    return LeftOut(
        {key: shape for key, shape in shapes.items() if key not in wanted},
        tuple(name for name in whole.stage_names if name not in network.stage_names),
    )


def _sized(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """The network with the classes that the tensors of its last stage have, and the ranks of its fully connected ones."""
    prefix = network.stages[-1].prefix
    last = shapes.get(f"{prefix}.weight") or shapes.get(f"{prefix}.left", ())
    if network.classes and len(last) == 2 and last[0] > 0:
        network = network.with_classes(last[0])
    lefts = {stage.name: shapes.get(f"{stage.prefix}.left", ()) for stage in network.stages}
    return network.with_ranks({name: left[1] for name, left in lefts.items() if len(left) == 2})


def _cut_to_fit(network: Network, shapes: Mapping[str, Shape]) -> Network | None:
    """The network up to the last stage that the tensors have, at least all before its fully connected ones."""
    stages = network.stages
    first = next((place for place, stage in enumerate(stages) if isinstance(stage, Linear)), len(stages))
    for end in range(len(stages), first - 1, -1):
        cut = replace(network, stages=stages[:end])
        wanted = cut.tensor_shapes()
        rest = {key: shape for key, shape in shapes.items() if key not in wanted}
        if all(shapes.get(key) == shape for key, shape in wanted.items()) and _are_heads(rest, cut):
            return cut
    return None


def _are_heads(shapes: Mapping[str, Shape], network: Network) -> bool:
    """Whether these can only be layers after the last convolution: matrices that read its map, a fully connected stage, or each other.

    Others, and matrices whose output a stage can read, may be in between: without them the codes would be wrong.
    """
    layers: dict[str, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        layer, _, end = key.rpartition(".")
        layers.setdefault(layer, {})[end] = shape
    if len(layers) > MOST_HEADS:
        return False
    maps = [shape for shape in network.output_shapes().values() if len(shape) == 3]
    matrices = [
        stage.weight_shape(incoming)
        for stage, incoming in zip(network.stages, network.incoming_shapes(), strict=True)
        if isinstance(stage, Linear)
    ]
    readable = {shape[0] for shape in matrices}
    readable.update(size for last in maps[-1:] for size in (math.prod(last), last[0]))
    for _ in range(len(layers)):
        for layer, ends in list(layers.items()):
            weight = ends.get("weight", ())
            linear = len(weight) == 2 and ends in ({"weight": weight}, {"weight": weight, "bias": weight[:1]})
            if linear and weight[1] in readable and weight[0] not in {shape[1] for shape in matrices}:
                readable.add(weight[0])
                del layers[layer]
    return not layers


def _mismatch(network: Network, shapes: Mapping[str, Shape], name: str) -> WeightsMismatchError:
    wanted = network.tensor_shapes()
    wrong = (key for key, shape in wanted.items() if shapes.get(key, shape) != shape)
    parts = (
        _part([key for key in wanted if key not in shapes], "key is missing", "keys are missing"),
        _part([key for key in shapes if key not in wanted], "key is unexpected", "keys are unexpected"),
        _part(
            [f"{key} is {_text(shapes[key])}, not {_text(wanted[key])}" for key in wrong],
            "shape differs",
            "shapes differ",
        ),
    )
    return WeightsMismatchError(
        f"'{name}' does not hold the weights of network '{network.name}' ({len(wanted)} tensors): "
        f"{'; '.join(filter(None, parts))}.",
        f"Use weights of that network, or name the network that these are of (known: {', '.join(NETWORKS)}).",
    )


def _text(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape[:8]) or "a single number"


def _part(items: list[str], one: str, many: str) -> str:
    if not items:
        return ""
    return f"{len(items)} {one if len(items) == 1 else many} ({first_of(items)})"
