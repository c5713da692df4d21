"""`cnncodes networks`: which networks there are."""

from __future__ import annotations

from cnncodes.cli import options, weights_options
from cnncodes.cli.console import Reporter

SUMMARY = "List the networks that can be used."


def list_known(pattern: weights_options.Pattern = "*", json: options.Json = False) -> None:
    """Networks whose name fits a pattern, with input size, parameters and accuracy where they are known.

    The AlexNets and VGG16, and every network for classification of torchvision and timm. Top-1 is the accuracy on ImageNet of
    the weights 'imagenet', as the library states it. Layers of one network: cnncodes info torchvision/resnet50.

        cnncodes networks list '*resnet*'
    """
    import fnmatch

    from cnncodes.core.errors import DependencyError
    from cnncodes.core.records import to_value
    from cnncodes.networks import NETWORKS
    from cnncodes.networks.library import LIBRARIES, list_networks
    from cnncodes.weights.library import FEW, describe_networks

    reporter = Reporter(json)
    names = list(NETWORKS)
    for library in LIBRARIES:
        try:
            names += [f"{library}/{name}" for name in list_networks(library)]
        except DependencyError as error:
            reporter.note(f"{error.problem} {error.remedy}")
    fitting = [name for name in names if fnmatch.fnmatch(name, pattern) or pattern in name]
    found = describe_networks(fitting)
    reporter.document(to_value(found))
    columns = ("network", "input (px)", "parameters", "penultimate", "top-1 (%)")
    rows = [
        (one.name, one.input_size, one.parameters, one.width, None if one.top1 is None else f"{one.top1:.1f}")
        for one in found
    ]
    reporter.table("", columns, rows)
    if len(found) > FEW:
        reporter.note(f"a pattern that fits at most {FEW} networks shows the parameters and layers of each")
    if fitting:
        reporter.next(f"cnncodes info {fitting[0]}")


COMMANDS = (("list", list_known),)
