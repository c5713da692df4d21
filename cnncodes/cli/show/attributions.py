"""`cnncodes show saliency`, `guided`, `deconv` and `gradcam`: which pixels speak for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter, shell
from cnncodes.cli.show.common import finish, named, picture_path

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Method


def saliency(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    class_name: show_options.ClassName = None,
    every: show_options.Every = False,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which pixels would change the class's score most: the gradient (Simonyan et al. 2014).

    Draws the largest magnitude of each pixel's red, green and blue, alone and over the image. It is the gradient of the
    score (the logit), not of the probability, which also changes when other classes do.

        cnncodes show saliency photo.jpg --weights starter

        cnncodes show saliency bee.jpg --weights run/model.safetensors --class bees --all
    """
    _show(
        "saliency", image, weights, network, class_name, None, every, output, device, overwrite, json, quiet
    )


def guided(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    class_name: show_options.ClassName = None,
    every: show_options.Every = False,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which patterns speak for a class: guided backpropagation (Springenberg et al. 2015).

    The gradient of the class's score, where every ReLU lets back only what is positive. It draws clear outlines, but
    much the same ones for every class: what tells classes apart, 'show gradcam' and 'show occlude' show better.

        cnncodes show guided photo.jpg --weights starter

        cnncodes show guided bee.jpg --weights run/model.safetensors --class bees -o guided.png
    """
    _show("guided", image, weights, network, class_name, None, every, output, device, overwrite, json, quiet)


def deconv(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    class_name: show_options.ClassName = None,
    every: show_options.Every = False,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The class projected down to pixels by a deconvolutional network (Zeiler and Fergus 2014).

    Like 'show guided', but on the way back a ReLU asks only whether what comes down is positive, not whether it was active
    on the way up; so it shows less of this image and more of what the network likes in general.

        cnncodes show deconv photo.jpg --weights starter

        cnncodes show deconv photo.jpg --weights starter --class bee -o deconv.png
    """
    _show("deconv", image, weights, network, class_name, None, every, output, device, overwrite, json, quiet)


def gradcam(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    class_name: show_options.ClassName = None,
    layer: show_options.GradcamLayer = None,
    every: show_options.Every = False,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which regions speak for a class: Grad-CAM (Selvaraju et al. 2017).

    The maps of one layer, each weighed by how much the class's score rises with it on average; what is positive is
    laid over the image. Coarse (13 x 13 places in AlexNet's conv5), but different for each class.

        cnncodes show gradcam photo.jpg --weights starter

        cnncodes show gradcam photo.jpg --weights starter --class bee --layer conv4 -o bee.png
    """
    _show(
        "gradcam", image, weights, network, class_name, layer, every, output, device, overwrite, json, quiet
    )


def _show(
    method: Method,
    image: str,
    weights: str,
    network: str | None,
    class_name: str | None,
    layer: str | None,
    every: bool,
    output: str | None,
    device: str,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    from cnncodes.pictures.attribution import attribute, attribute_all
    from cnncodes.pictures.attribution_picture import draw_attribution, draw_attributions
    from cnncodes.pictures.subject import load_subject, view_of

    reporter = Reporter(json, quiet)
    path = picture_path(output, "attributions" if every else method, overwrite, image)
    subject = load_subject(weights, network=network, device=device)
    view = view_of(image, subject)
    if every:
        found = attribute_all(subject, view, class_name=class_name, layer=layer)
        figure = draw_attributions(found)
    else:
        found = (attribute(subject, view, method, class_name=class_name, layer=layer),)
        figure = draw_attribution(found[0])
    layers = [entry.layer for entry in found if entry.layer]
    document = {
        **found[0].question.to_json(),
        "methods": [entry.method for entry in found],
        "layer": layers[0] if layers else None,
    }
    finish(reporter, figure, path, document)
    command = "occlude" if every else f"{method} --all"
    name, _, option = command.partition(" ")
    asked = f" --class {shell(class_name)}" if class_name else ""
    reporter.next(
        f"cnncodes show {name} {shell(image)} {named(weights, network)}{asked}{option and ' ' + option}"
    )
