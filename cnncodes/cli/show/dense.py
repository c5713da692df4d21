"""`cnncodes show dense`: class scores as a map over a large image."""

from __future__ import annotations

from cnncodes.cli import head_options, options, show_options
from cnncodes.cli.console import Reporter, shell
from cnncodes.cli.show.common import finish, named, picture_path


def dense(
    image: show_options.Image,
    weights: show_options.Subject = "imagenet",
    network: options.Network = None,
    size: head_options.MapSize = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Which class is where? The network at every place of a larger image at once.

    The fully convolutional form: fully connected layers become convolutions over the last grid (CS231n; Sermanet
    et al. 2014), so that all places share their computation. Each place equals the classifier on its window of
    the grid, exactly; a crop cut out of the image differs a little, since its border is padded: by how much is
    printed, and how much longer such crops take.

        cnncodes show dense photo.jpg --weights starter

        cnncodes show dense bees.jpg --weights run/model.safetensors --size 768
    """
    from cnncodes.pictures.dense import dense_map, draw_dense
    from cnncodes.pictures.subject import load_subject

    reporter = Reporter(json, quiet)
    path = picture_path(output, "dense", overwrite, image)
    subject = load_subject(weights, network=network, device=device)
    with reporter.progress("comparing with crops", 100) as update:
        found = dense_map(subject, image, size, lambda done, total: update(100 * done / total, ""))
    rows, columns = found.values.shape[1:]
    reporter.result(
        f"{rows} x {columns} places in {found.seconds:.2f} s; sliding crops: {found.crops_seconds:.2f} s, "
        f"{found.crops_seconds / found.seconds:.1f} times as long"
    )
    reporter.result(
        f"the largest {found.unit} of a crop (padded at its border) differs by {found.difference:.2g} on average, "
        f"the class is the same at {100 * found.agree:.0f} % of the places"
    )
    finish(reporter, draw_dense(found), path, found.to_json())
    reporter.next(f"cnncodes show occlude {shell(image)} {named(weights, network)}")
