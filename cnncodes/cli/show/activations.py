"""`cnncodes show activations`: what the units of a stage give on one image."""

from __future__ import annotations

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import finish, picture_path, tell_crop
from cnncodes.core.words import percent, shell


def activations(
    image: show_options.Image,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    layer: show_options.Layer = "conv5",
    units: show_options.Units = None,
    count: show_options.MostActive = None,
    each: show_options.EachScale = False,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What the units of a layer give on an image: maps as a grid, the most active first.

    Maps of conv1 still look like the image: edges and colours. Those of conv5 are dark but for a few places, where
    the unit found what it looks for; 'show strongest' with the numbers above the maps tells what that is. Of fully
    connected layers, which have no places, all values in order of size and a few bars are drawn.

        cnncodes show activations photo.jpg --weights starter --layer conv1

        cnncodes show activations bee.jpg --weights run/model.safetensors --units 1,7,42 --each
    """
    from cnncodes.pictures.activations import draw_activations, parse_units, read_activations
    from cnncodes.pictures.classifier import load_classifier, see_image

    reporter = Reporter(json, quiet)
    path = picture_path(output, "activations", overwrite, image)
    wanted = parse_units(units, count)
    subject = load_classifier(weights, network=network, device=device)
    found = read_activations(subject, see_image(image, subject), layer)
    figure = draw_activations(found, wanted, each)
    document = found.to_json(wanted)
    reporter.result(
        f"{found.stage}: {percent(found.firing)} of {len(found.values):,} units {found.fires} on this image"
    )
    tell_crop(reporter, found.seen)
    finish(reporter, figure, path, document)
    first = ",".join(str(entry["unit"]) for entry in document["units"][:3])
    reporter.next(
        f"cnncodes show strongest photos --weights {shell(weights)} --layer {found.stage} --units {first}"
    )
