"""`cnncodes networks`: which networks there are."""

from __future__ import annotations

from cnncodes.cli import options, weights_options
from cnncodes.cli.console import Reporter

SUMMARY = "List the networks that can be used."


def list_known(pattern: weights_options.Pattern = "*", json: options.Json = False) -> None:
    """Networks whose name fits a pattern: the AlexNets and VGG16, and those of torchvision and timm.

    Sizes, layers and parameters of one: cnncodes info torchvision/resnet50.

        cnncodes networks list '*resnet*'
    """
    import fnmatch

    from cnncodes.core.errors import DependencyError
    from cnncodes.networks import NETWORKS
    from cnncodes.networks.library import LIBRARIES, list_networks

    reporter = Reporter(json)
    names = list(NETWORKS)
    for library in LIBRARIES:
        try:
            names += dict.fromkeys(f"{library}/{name}" for name in list_networks(library))
        except DependencyError as error:
            reporter.note(f"{error.problem} {error.remedy}")
    fitting = [name for name in names if fnmatch.fnmatch(name, pattern) or pattern in name]
    reporter.document(fitting)
    for name in fitting:
        reporter.result(name)
    if fitting:
        reporter.next(f"cnncodes info {fitting[0]}")


COMMANDS = (("list", list_known),)
