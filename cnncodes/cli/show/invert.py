"""`cnncodes show invert`: an image rebuilt from its code."""

from __future__ import annotations

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import file_word, finish, named, picture_path, tell_crop
from cnncodes.core.words import one_line


def invert(
    image: show_options.Image,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    layer: show_options.Layers = "pool1,conv3,pool5,fc6,fc7",
    iterations: show_options.Iterations = 150,
    seed: options.Seed = 0,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What does a layer keep of an image? Rebuild the image from its code alone.

    Starting from noise, pixels are changed until the layer gives the same code (Mahendran and Vedaldi 2015). Early
    layers keep nearly all; late ones colours, texture and parts, and no longer where they were.

        cnncodes show invert photo.jpg --weights starter

        cnncodes show invert photo.jpg --weights run/model.safetensors --layer fc7 --iterations 300
    """
    from cnncodes.pictures.classifier import load_classifier, see_image
    from cnncodes.pictures.inversion import as_share, draw_inversions
    from cnncodes.pictures.inversion import invert as compute
    from cnncodes.pictures.question import as_text

    reporter = Reporter(json, quiet)
    path = picture_path(output, "invert", overwrite, image)
    subject = load_classifier(weights, network=network, device=device)
    subject.weights.architecture.select(layer)  # before the image is read
    view = see_image(image, subject)
    with reporter.progress("rebuilding the image", 100) as update:
        found = compute(
            subject,
            view,
            layer,
            iterations,
            seed,
            lambda _, done, total, word: update(100 * done / total, word),
        )
    for part in found.parts:
        answer = (
            f"; the network sees '{one_line(part.answer[0])}', {as_text(part.answer[1], found.unit)}"
            if part.answer
            else ""
        )
        reporter.result(f"{part.stage}: error of the code {as_share(part.error)}{answer}")
    if found.answer:
        seen = f"'{one_line(found.answer[0])}', {as_text(found.answer[1], found.unit)}"
        reporter.result(f"in the image itself it sees {seen}")
    reporter.note(found.meaning())
    tell_crop(reporter, found.seen)
    finish(reporter, draw_inversions(found), path, found.to_json())
    reporter.next(f"cnncodes show fool {file_word(image)} {named(weights, network)}")
