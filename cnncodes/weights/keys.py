"""Which network a set of tensors belongs to, what is left out, and what to say when it belongs to none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from cnncodes.core.errors import WeightsMismatchError
from cnncodes.networks import NETWORKS, Linear, Network, Shape, get_network

SHOWN = 3  # keys named in an error; the others are counted
MOST_HEADS = 100  # layers of a file that may be left out because nothing that is used reads them
INSIDE = (".module.", "._orig_mod.")  # DataParallel and torch.compile put these inside of a key


@dataclass(frozen=True)
class LeftOut:
    """What a file has beside its network, and what of the network it lacks.

    Parameters
    ----------
    tensors : dict of str to shape
        Tensors that are not used: of a last layer by another name, or of other modules.
    stages : tuple of str
        Stages of the network that the file has no numbers for.
    """

    tensors: Mapping[str, Shape]
    stages: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence, or nothing if nothing was left out."""
        parts = []
        if self.stages:
            parts.append(
                f"the file has no numbers for {', '.join(self.stages)}: these layers cannot be asked for"
            )
        if self.tensors:
            names = [f"{key[:80]} ({_text(shape)})" for key, shape in self.tensors.items()]
            parts.append(_part(names, "tensor is not used", "tensors are not used"))
        return "; ".join(parts)


@cache
def _known_keys() -> frozenset[str]:
    networks = [get_network(name) for name in NETWORKS]
    linear = [stage.prefix for network in networks for stage in network.stages if isinstance(stage, Linear)]
    factors = {f"{prefix}.{end}" for prefix in linear for end in ("left", "right")}
    return frozenset(key for network in networks for key in network.tensor_shapes()) | factors


def unwrapped(
    keys: Iterable[str], name: str, network: str | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The keys of a network by their names without what wraps it, and the keys of other modules beside it.

    Modules that hold a network put their name for it before each key: ``module.``, ``model.backbone.``, ... What they
    hold beside it (a loss, a metric) has another beginning.

    Raises
    ------
    WeightsMismatchError
        If there are several networks.
    """
    known = frozenset(get_network(network).tensor_shapes()) if network and "/" in network else _known_keys()
    plain = {key: _without_inside(key) for key in keys}
    prefixes = Counter(
        prefix for text in plain.values() if (prefix := _prefix(text, known)) is not None
    ).most_common(2)
    if len(prefixes) == 2 and prefixes[0][1] == prefixes[1][1]:
        raise WeightsMismatchError(
            f"'{name}' holds two networks: keys begin with '{prefixes[0][0]}' and '{prefixes[1][0]}'.",
            "Save one of them to a file of its own: torch.save(model.state_dict(), FILE).",
        )
    prefix = prefixes[0][0] if prefixes else ""
    names = {text.removeprefix(prefix): key for key, text in plain.items() if text.startswith(prefix)}
    return names, tuple(key for key, text in plain.items() if not text.startswith(prefix))


def _without_inside(key: str) -> str:
    for wrapper in INSIDE:
        key = key.replace(wrapper, ".")
    return key


def _prefix(key: str, known: frozenset[str]) -> str | None:
    """What stands before the longest ending of a key that some network has; None if no network has any."""
    start = 0
    while True:
        if key[start:] in known:
            return key[:start]
        start = key.find(".", start) + 1
        if not start:
            return None


def fit_network(
    shapes: Mapping[str, Shape], name: str, *, network: str | None = None, hints: Sequence[str] = ()
) -> Network:
    """The network with these tensors, its classifier as wide as the last of them; see :func:`left_out` for the rest.

    It ends before the first fully connected stage that the tensors do not have, or have in another shape. Tensors
    that it does not have are allowed if they can only be layers that it does not need: another classifier.

    Parameters
    ----------
    shapes : mapping of str to shape
        Keys of a state dict and the shapes of their tensors.
    name : str
        What the user called the weights, for the messages.
    network : str or None
        Name of the network; None finds it from keys and shapes.
    hints : sequence of str
        Words (a file's name, a name inside of it) that choose among networks of equal shapes by naming one.

    Raises
    ------
    WeightsMismatchError
        If the tensors are of another network, or of several and no hint decides.
    """
    if network and "/" in network:
        return _library_network(network, shapes, name)
    candidates = [
        _with_their_ranks(_with_their_classes(get_network(known), shapes), shapes)
        for known in ([network] if network else NETWORKS)
    ]
    cuts = [cut for candidate in candidates if (cut := _cut_to_fit(candidate, shapes)) is not None]
    most = max((len(cut.tensor_shapes()) for cut in cuts), default=0)
    fitting = {cut.name: cut for cut in cuts if len(cut.tensor_shapes()) == most}
    if not fitting:
        nearest = max(candidates, key=lambda candidate: _agreement(candidate, shapes))
        raise _mismatch(nearest, shapes, name)
    if len(fitting) > 1:
        named = {known for known in fitting for hint in hints if known in hint.lower()}
        if len(named) != 1:
            raise WeightsMismatchError(
                f"the tensors of '{name}' fit {len(fitting)} networks, which differ in their normalisation: "
                f"{', '.join(fitting)}.",
                f"Say which one it is: --model {next(iter(fitting))} on the command line, "
                f"network='{next(iter(fitting))}' in Python.",
            )
        return fitting[named.pop()]
    return next(iter(fitting.values()))


def _library_network(network: str, shapes: Mapping[str, Shape], name: str) -> Network:
    """The library's network with the classes that the tensors have; what it lacks or has otherwise is an error."""
    found = get_network(network)
    key = next(reversed([key for key, shape in found.tensor_shapes().items() if key.endswith(".weight")]), "")
    last = shapes.get(key, ())
    if found.classes and last and last[0] != found.classes:
        found = found.with_classes(last[0])
    if any(shapes.get(key) != shape for key, shape in found.tensor_shapes().items()):
        raise _mismatch(found, shapes, name)
    return found


def left_out(network: Network, shapes: Mapping[str, Shape]) -> LeftOut:
    """What the tensors have beside a network that :func:`fit_network` found, and what of it they lack."""
    wanted, whole = network.tensor_shapes(), network if "/" in network.name else get_network(network.name)
    return LeftOut(
        {key: shape for key, shape in shapes.items() if key not in wanted},
        tuple(name for name in whole.stage_names if name not in network.stage_names),
    )


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
    """Whether these tensors can only be layers beside or after a network's last ones: matrices that read its last map, a
    fully connected stage, or each other.

    A normalisation, a convolution or a matrix that gives what a stage reads is none: it may stand in between, and without
    it the codes would be wrong.
    """
    layers: dict[str, dict[str, Shape]] = {}
    for key, shape in shapes.items():
        layer, _, end = key.rpartition(".")
        layers.setdefault(layer, {})[end] = shape
    if len(layers) > MOST_HEADS:
        return False
    maps = [shape for shape in network.output_shapes().values() if len(shape) == 3][
        -1:
    ]  # none of a network of matrices
    matrices = [
        stage.weight_shape(incoming)
        for stage, incoming in zip(network.stages, network.incoming_shapes(), strict=True)
        if isinstance(stage, Linear)
    ]
    readable = {size for last in maps for size in (math.prod(last), last[0])} | {
        shape[0] for shape in matrices
    }
    wanted = {shape[1] for shape in matrices}
    for _ in range(len(layers)):
        for layer, ends in list(layers.items()):
            weight = ends.get("weight", ())
            whole = len(weight) == 2 and ends in ({"weight": weight}, {"weight": weight, "bias": weight[:1]})
            if whole and weight[1] in readable and weight[0] not in wanted:
                readable.add(weight[0])
                del layers[layer]
    return not layers


def _with_their_classes(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """The network with as many classes as the tensors of its last stage have rows."""
    prefix = network.stages[-1].prefix
    last = shapes.get(f"{prefix}.weight") or shapes.get(f"{prefix}.left", ())
    return network.with_classes(last[0]) if network.classes and len(last) == 2 and last[0] > 0 else network


def _with_their_ranks(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """The network with the ranks that the tensors of its fully connected stages have."""
    found = {stage.name: shapes.get(f"{stage.prefix}.left", ()) for stage in network.stages}
    return network.with_ranks({name: shape[1] for name, shape in found.items() if len(shape) == 2})


def _agreement(network: Network, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """Tensors with the right key and shape, then those with the right key."""
    wanted = network.tensor_shapes()
    return (
        sum(shapes.get(key) == shape for key, shape in wanted.items()),
        sum(key in shapes for key in wanted),
    )


def _mismatch(network: Network, shapes: Mapping[str, Shape], name: str) -> WeightsMismatchError:
    wanted = network.tensor_shapes()
    missing = [key for key in wanted if key not in shapes]
    unexpected = [key for key in shapes if key not in wanted]
    differing = [
        f"{key} is {_text(shapes[key])}, not {_text(shape)}"
        for key, shape in wanted.items()
        if key in shapes and shapes[key] != shape
    ]
    parts = [
        _part(missing, "key is missing", "keys are missing"),
        _part(unexpected, "key is unexpected", "keys are unexpected"),
        _part(differing, "shape differs", "shapes differ"),
    ]
    return WeightsMismatchError(
        f"'{name}' does not hold the weights of network '{network.name}' ({len(wanted)} tensors): "
        f"{'; '.join(part for part in parts if part)}.",
        f"Use weights of that network, or name the network that these are of (known: {', '.join(NETWORKS)}).",
    )


def _text(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape[:8]) or "a single number"


def _part(items: list[str], one: str, many: str) -> str:
    if not items:
        return ""
    shown = [item if len(item) <= 120 else item[:117] + "..." for item in items[:SHOWN]]
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{len(items)} {one if len(items) == 1 else many} ({', '.join(shown)}{more})"
