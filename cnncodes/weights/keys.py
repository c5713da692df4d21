"""Which network a set of tensors belongs to, and what to say when it belongs to none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnncodes.errors import WeightsMismatchError
from cnncodes.networks import NETWORKS, Network, Shape, get_network

SHOWN = 3  # keys named in an error; the others are counted


def fit_network(
    shapes: Mapping[str, Shape], name: str, *, network: str | None = None, hints: Sequence[str] = ()
) -> Network:
    """The network with exactly these tensors, its classifier as wide as the last of them.

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
    if network is not None:
        wanted = _with_their_classes(get_network(network), shapes)
        if wanted.tensor_shapes() != dict(shapes):
            raise _mismatch(wanted, shapes, name)
        return wanted
    candidates = [_with_their_classes(get_network(known), shapes) for known in NETWORKS]
    fitting = {
        candidate.name: candidate for candidate in candidates if candidate.tensor_shapes() == dict(shapes)
    }
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


def _with_their_classes(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """The network with as many classes as the tensors of its last stage have rows."""
    last = shapes.get(f"{network.stages[-1].prefix}.weight", ())
    return network.with_classes(last[0]) if network.classes and len(last) == 2 and last[0] > 0 else network


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
