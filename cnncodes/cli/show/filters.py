"""`cnncodes show filters`: the weights of a convolution as pictures."""

from __future__ import annotations

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import finish, named, picture_path


def filters(
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    layer: show_options.Layer = "conv1",
    output: show_options.Picture = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The filters of a convolution: what its units look for.

    Those of conv1 read pixels and are shown in colour: a trained network has edges and blobs of colour there, an
    untrained one noise. Their numbers are those of 'show activations' and 'show strongest'. Weights of later stages combine
    maps and cannot be read as pictures: a part is shown, by channel; what they look for, 'show strongest' shows.

        cnncodes show filters --weights starter

        cnncodes show filters --weights run/model.safetensors --layer conv2 -o conv2.png
    """
    from cnncodes.pictures.classifier import load_classifier
    from cnncodes.pictures.filters import draw_filters, read_filters

    reporter = Reporter(json, quiet)
    path = picture_path(output, "filters", overwrite)
    found = read_filters(load_classifier(weights, network=network, device="cpu").weights, layer)
    document = {"weights": found.weights, "stage": found.stage, "shape": list(found.values.shape)}
    finish(reporter, draw_filters(found), path, document)
    if found.values.shape[1] == 3:
        reporter.next(f"cnncodes show activations photo.jpg {named(weights, network)} --layer {found.stage}")
    else:
        reporter.note("weights of a later stage cannot be read as pictures of what its units look for")
        reporter.next(f"cnncodes show strongest photos/ {named(weights, network)} --layer {found.stage}")
