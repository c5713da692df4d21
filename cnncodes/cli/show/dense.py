"""`cnncodes show dense`: which class is where in a larger image."""

from __future__ import annotations

from cnncodes.cli import head_options, options, show_options
from cnncodes.cli.console import Reporter, one_line
from cnncodes.cli.show.common import file_word, finish, named, picture_path


def dense(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    class_name: show_options.DenseClassName = None,
    size: head_options.MapSize = None,
    step: head_options.MapStep = None,
    sliding: head_options.Sliding = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which class is where? The network at every place of a larger image at once.

    The fully convolutional form: fully connected layers become convolutions over the last grid (CS231n; Sermanet
    et al. 2014), so that all places share their computation. Each place equals the classifier on its window of
    the grid, exactly. A crop cut out there has zeros around it where the window has neighbours, and the network has
    learned from crops: where most crops say something else, the picture is drawn from crops.
    Without --class the map in the middle is of the class that is the largest at most places.

        cnncodes show dense photo.jpg --weights starter

        cnncodes show dense bees.jpg --weights run/model.safetensors --class bees --size 384
    """
    from cnncodes.pictures.dense import dense_map
    from cnncodes.pictures.dense_drawing import draw_dense
    from cnncodes.pictures.subject import load_subject

    reporter = Reporter(json, quiet)
    path = picture_path(output, "dense", overwrite, image)
    subject = load_subject(weights, network=network, device=device)
    with reporter.progress("crops" if sliding else "comparing with crops", 100) as update:
        found = dense_map(
            subject, image, size, step=step, class_name=class_name, sliding=sliding,
            progress=lambda done, total: update(100 * done / total, ""),
        )  # fmt: skip
    rows, columns = found.values.shape[1:]
    by = "a crop at each" if found.sliding else "all together"
    reporter.result(f"{rows} x {columns} places, {found.step} px apart, {by}: {found.describe()}")
    reporter.result(one_line(found.answer))
    if found.sliding and sliding is None:
        reporter.note(
            f"drawn from real crops: the network over the whole image at once says something else of "
            f"{100 * (1 - found.crops.agree):.0f} % of them (--no-sliding draws that)"
        )
    reporter.result(
        f"all places together in {found.seconds:.2f} s; as single crops {found.crops.seconds:.2f} s, "
        f"{found.crops.seconds / found.seconds:.1f} times as long"
    )
    reporter.result(
        f"of {found.crops.crops} crops cut out there {100 * found.crops.agree:.0f} % have the class of all together (mirrored, "
        f"{100 * found.crops.mirrored:.0f} % of the crops keep theirs); their largest {found.unit} differs by "
        f"{found.crops.difference:.2g} on average"
    )
    for caution in found.cautions():
        reporter.warn(f"beware: {caution}")
    finish(reporter, draw_dense(found), path, found.to_json())
    if found.cautions() and not found.sliding:
        reporter.next(
            f"cnncodes show dense {file_word(image)} {named(weights, network)} --sliding -o sliding.png"
        )
    else:
        reporter.next(f"cnncodes show occlude {file_word(image)} {named(weights, network)}")
