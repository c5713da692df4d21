"""Names and ranges of stages: ``fc7``, ``conv1-3``, ``conv``, ``fc6,fc7``, ``all``, ``none``, ``fc7:linear``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cnncodes.core.errors import StageError, nearest

if TYPE_CHECKING:
    from cnncodes.networks.network import Network

LINEAR = ":linear"


def parse_stages(network: Network, stages: str | Iterable[str]) -> tuple[str, ...]:
    """Canonical stage names, in the order asked, each once.

    Parameters
    ----------
    network : Network
    stages : str or iterable of str
        Parts separated by commas, each one of:

        - a stage: ``fc7`` (after its ReLU) or ``fc7:linear`` (before it);
        - a block of numbered stages: ``conv3`` is ``conv3_1, conv3_2, conv3_3`` in VGG;
        - a kind: ``conv``, ``pool``, ``norm``, ``fc``;
        - a range, both ends included: ``conv1-3``, ``conv1-conv5``; it takes the stages of the kinds of its
          two ends, so ``conv4-fc6`` leaves the pooling out;
        - ``all``, ``none``;
        - torchvision's spelling of the network: ``features.10`` (a convolution before its ReLU: ``conv5:linear``),
          ``features.11`` (after: ``conv5``), ``classifier.5`` (``fc7``).

    Returns
    -------
    tuple of str
        Such as ``("fc6", "fc7:linear")``.

    Raises
    ------
    StageError
        For a name that the network does not have; the message has the nearest right one.
    """
    parts = (
        stages.split(",")
        if isinstance(stages, str)
        else [part for text in stages for part in text.split(",")]
    )
    names = [name for part in parts for name in _expand(network, part.strip())]
    return tuple(dict.fromkeys(names))


def torchvision_spellings(network: Network) -> dict[str, str]:
    """Torchvision's module names and the canonical names of the same values."""
    spellings: dict[str, str] = {}
    for stage in network.stages:
        if not stage.key:
            continue
        container, _, place = stage.key.rpartition(".")
        spellings[stage.key] = stage.name + LINEAR if stage.relu else stage.name
        if stage.relu:
            spellings[f"{container}.{int(place) + 1}"] = stage.name
    return spellings


def _expand(network: Network, part: str) -> list[str]:
    """Canonical names for one part between commas."""
    if part == "none":
        return []
    if part == "all":
        return list(network.stage_names)
    if part in (spellings := torchvision_spellings(network)):
        return [spellings[part]]
    if part.endswith(LINEAR):
        return [
            _before_relu(network, name) for name in _places_names(network, part.removesuffix(LINEAR), part)
        ]
    first, dash, last = part.partition("-")
    if dash and last:
        return _range(network, first, last, part)
    return _places_names(network, part, part)


def _before_relu(network: Network, name: str) -> str:
    stage = network.stages[network.stage_names.index(name)]
    if stage.relu:
        return name + LINEAR
    if stage.kind == "fc":  # the classifier has no ReLU: both names are the same value
        return name
    raise StageError(f"'{name}{LINEAR}' does not exist: {name} has no ReLU.", f"Use '{name}'.")


def _range(network: Network, first: str, last: str, part: str) -> list[str]:
    if last.isdigit():
        last = re.sub(r"\d.*$", "", first) + last
    start, end = _places(network, first, part)[0], _places(network, last, part)[-1]
    if start > end:
        raise StageError(f"the range '{part}' is backwards in {network.name}.", f"Use '{last}-{first}'.")
    kinds = {network.stages[start].kind, network.stages[end].kind}
    return [stage.name for stage in network.stages[start : end + 1] if stage.kind in kinds]


def _places_names(network: Network, word: str, part: str) -> list[str]:
    return [network.stage_names[place] for place in _places(network, word, part)]


def _places(network: Network, word: str, part: str) -> list[int]:
    """Places of the stages that a single word names."""
    for names in (
        network.stage_names,
        tuple(name.rpartition("_")[0] or name for name in network.stage_names),  # conv3 of conv3_1, conv3_2
        tuple(stage.kind for stage in network.stages),
    ):
        if places := [place for place, name in enumerate(names) if name == word]:
            return places
    raise StageError(
        f"network '{network.name}' has no stage '{part}'.",
        nearest(word, network.stage_names) + " Ranges such as conv1-3, kinds such as conv, and all work too.",
    )
