"""`cnncodes show dense`: which class is where in a larger image."""

from __future__ import annotations

from cnncodes.cli import head_options, options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import file_word, finish, named, picture_path
from cnncodes.core.words import one_line


def dense(
    image: show_options.Image,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    class_name: show_options.DenseClassName = None,
    size: head_options.MapSize = None,
    step: head_options.MapStep = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which class is where? The network at every place of a larger image at once.

    The fully convolutional form: fully connected layers become convolutions over the last grid (CS231n; Sermanet
    et al. 2014), so that all places share their computation. Each value is exactly that of the classifier on its
    window of the grid. Draws one heat map per class: of --class, else of the five that are the largest at most places.

        cnncodes show dense photo.jpg --weights starter

        cnncodes show dense bees.jpg --weights run/model.safetensors --class bees --size 384
    """
    from cnncodes.pictures.classifier import load_classifier
    from cnncodes.pictures.dense import dense_map, draw_dense

    reporter = Reporter(json, quiet)
    path = picture_path(output, "dense", overwrite, image)
    subject = load_classifier(weights, network=network, device=device)
    with reporter.progress("computing all places", 1):
        found = dense_map(subject, image, size, step=step, class_name=class_name)
    rows, columns = found.values.shape[1:]
    reporter.result(one_line(f"{rows} x {columns} places, {found.step} px apart: {found.describe()}"))
    finish(reporter, draw_dense(found), path, found.to_json())
    reporter.next(f"cnncodes show occlude {file_word(image)} {named(weights, network)}")
