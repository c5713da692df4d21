"""`cnncodes show occlude`: a grey patch slides over the image."""

from __future__ import annotations

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import file_word, finish, named, picture_path, tell_question


def occlude(
    image: show_options.Image,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    class_name: show_options.ClassName = None,
    patch: show_options.Patch = 32,
    stride: show_options.Stride = 8,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Slide a grey patch over an image: where is the class missed when it is covered?

    Draws the probability of a class by the place of the patch, red where covering costs and blue where it helps, and the
    most probable class at each place (Zeiler and Fergus 2014, section 4.2). A network that looks at the thing itself
    loses the class where the patch covers the thing; one that loses it elsewhere has learned the background.

        cnncodes show occlude photo.jpg --weights starter

        cnncodes show occlude bee.jpg --weights run/model.safetensors --class bees --patch 48 --stride 12
    """
    from cnncodes.pictures.classifier import load_classifier, see_image
    from cnncodes.pictures.occlusion import draw_occlusion, places
    from cnncodes.pictures.occlusion import occlude as compute

    reporter = Reporter(json, quiet)
    path = picture_path(output, "occlude", overwrite, image)
    subject = load_classifier(weights, network=network, device=device)
    view = see_image(image, subject)
    total = len(places(len(view.rgb), patch, stride)) ** 2
    with reporter.progress("sliding the patch", total, "places") as update:
        found = compute(
            subject,
            view,
            class_name=class_name,
            patch=patch,
            stride=stride,
            progress=lambda _, done, total, word: update(done, word),
        )
    tell_question(reporter, found.question)
    finish(reporter, draw_occlusion(found), path, found.to_json())
    reporter.next(f"cnncodes show saliency {file_word(image)} {named(weights, network)} --all")
