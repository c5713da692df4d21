"""`cnncodes show strongest`: the images that excite a unit most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli import codes_options, options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import finish, images_or_stored, picture_path, tell_left_out, tell_unreadable
from cnncodes.core.words import one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.pictures.strongest import Strongest


@options.takes_data
def strongest(
    data: show_options.DataOrCodes,
    layer: show_options.Layer = "pool5",
    units: show_options.Units = None,
    count: show_options.MostVarying = 6,
    k: show_options.ImagesEach = None,
    weights: show_options.OptionalSubject = None,
    network: options.Network = None,
    split: show_options.OnlySplit = "all",
    limit: codes_options.Limit = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """The images that excite a unit most, cut to what it sees: so one learns what it looks for.

    A unit of conv1 sees 11 x 11 pixels and likes an edge or a colour; one of conv3 about 99, a texture or a
    part; one of pool5 or fc7 nearly all or all of the image. Where the images of a row have something in common,
    the unit stands for that. One pass over the images, or over a codes file that has the layer.

        cnncodes show strongest photos/ --weights starter --layer conv3

        cnncodes show strongest codes.h5 --layer pool5 --units 1,7,42 -o units.png
    """
    from cnncodes.pictures.activations import parse_units
    from cnncodes.pictures.strongest import draw_strongest, find_strongest

    reporter = Reporter(json, quiet)
    path = picture_path(output, "strongest", overwrite)
    images, root = images_or_stored(data, reading)
    with reporter.progress("looking", 1) as update:
        found = find_strongest(
            images, layer, parse_units(units, count), weights=weights, network=network, k=k, split=split, limit=limit, root=root,
            device=device, workers=workers,
            progress=lambda _, done, total, word: update(done / total, f"{done:,.0f} of {total:,} images"),
        )  # fmt: skip
    if units is None:
        reporter.note(f"the {len(found.units)} units that vary most over the images; --units names others")
    tell_left_out(reporter, found.catalog)
    _tell(reporter, found)
    tell_unreadable(reporter, found.problems)
    finish(reporter, draw_strongest(found), path, found.to_json())
    first = int(found.rows[0, 0])
    if first >= 0:
        photo = shell(found.catalog.path(first))
        reporter.next(
            f"cnncodes show activations {photo} --weights {shell(weights or found.weights)} --layer {found.stage}"
        )
    if found.problems:
        raise options.Exit(3)


def _tell(reporter: Reporter, found: Strongest) -> None:
    """Each unit with its strongest image, as a table."""
    rows = []
    for place, unit in enumerate(found.units):
        row = int(found.rows[place, 0])
        image = one_line(found.catalog.names[row]) if row >= 0 else "none"
        name = one_line(found.names[place]) if found.names else None
        value = f"{found.values[place, 0]:.4g}" if row >= 0 else None
        own = (name,) if found.names else ()
        rows.append((f"{unit}", *own, percent(found.firing[place]), value, image))
    title = f"{found.stage} on {found.images:,} images"
    reporter.table(
        title, ("unit", *(("class",) if found.names else ()), "fires on", "strongest", "image"), rows
    )
