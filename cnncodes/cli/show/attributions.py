"""`cnncodes show saliency`, `guided`, `deconv` and `gradcam`: which pixels speak for a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import file_word, finish, named, picture_path, tell_question
from cnncodes.core.errors import OptionError
from cnncodes.core.words import shell

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Method


def _command(method: Method, text: str) -> Callable[..., None]:
    """One of the four commands: they take the same options and differ in what they say of themselves."""

    def command(
        image: show_options.Image,
        weights: show_options.Classifier = "imagenet",
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
        from cnncodes.pictures.attribution import (
            attribute,
            attribute_all,
            draw_attribution,
            draw_attributions,
        )
        from cnncodes.pictures.classifier import load_classifier, see_image

        if layer is not None and method != "gradcam" and not every:
            raise OptionError(
                f"--layer {layer} is for Grad-CAM: {method} goes back to the pixels.",
                "Leave it out, add --all, or use 'show gradcam'.",
            )
        reporter = Reporter(json, quiet)
        path = picture_path(output, "attributions" if every else method, overwrite, image)
        subject = load_classifier(weights, network=network, device=device)
        view = see_image(image, subject)
        if every:
            found = attribute_all(subject, view, class_name=class_name, layer=layer)
            figure = draw_attributions(found)
        else:
            found = (attribute(subject, view, method, class_name=class_name, layer=layer),)
            figure = draw_attribution(found[0])
        tell_question(reporter, found[0].question)
        layers = [entry.layer for entry in found if entry.layer]
        document = {
            **found[0].question.to_json(),
            "methods": [entry.method for entry in found],
            "layer": layers[0] if layers else None,
        }
        finish(reporter, figure, path, document)
        name, option = ("occlude", "") if every else (method, " --all")
        asked = f" --class {shell(class_name)}" if class_name else ""
        reporter.next(f"cnncodes show {name} {file_word(image)} {named(weights, network)}{asked}{option}")

    command.__name__ = method
    command.__doc__ = text
    return command


saliency = _command(
    "saliency",
    """Which pixels would change the class's score most: the gradient (Simonyan et al. 2014).

    Draws the largest magnitude of each pixel's red, green and blue, alone and over the image. It is the gradient of the
    score (the logit), not of the probability, which also changes when other classes do.

        cnncodes show saliency photo.jpg --weights starter

        cnncodes show saliency bee.jpg --weights run/model.safetensors --class bees --all
    """,
)

guided = _command(
    "guided",
    """Which patterns speak for a class: guided backpropagation (Springenberg et al. 2015).

    The gradient of the class's score, where every ReLU lets back only what is positive. It draws clear outlines, but
    much the same ones for every class: what tells classes apart, 'show gradcam' and 'show occlude' show better.

        cnncodes show guided photo.jpg --weights starter

        cnncodes show guided bee.jpg --weights run/model.safetensors --class bees -o guided.png
    """,
)

deconv = _command(
    "deconv",
    """The class projected down to pixels by a deconvolutional network (Zeiler and Fergus 2014).

    Like 'show guided', but on the way back a ReLU asks only whether what comes down is positive, not whether it was active
    on the way up; so it shows less of this image and more of what the network likes in general.

        cnncodes show deconv photo.jpg --weights starter

        cnncodes show deconv photo.jpg --weights starter --class bee -o deconv.png
    """,
)

gradcam = _command(
    "gradcam",
    """Which regions speak for a class: Grad-CAM (Selvaraju et al. 2017).

    The maps of one layer, each weighed by how much the class's score rises with it on average; what is positive is
    laid over the image. Coarse (13 x 13 places in AlexNet's conv5), but different for each class.

        cnncodes show gradcam photo.jpg --weights starter

        cnncodes show gradcam photo.jpg --weights starter --class bee --layer conv4 -o bee.png
    """,
)
