"""`cnncodes show map`: images laid out by their codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnncodes.cli import codes_options, options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import MOVED, codes_at_hand, finish, next_on, picture_path, tell_unreadable
from cnncodes.core.errors import OptionError
from cnncodes.core.words import percent, shell

if TYPE_CHECKING:
    from cnncodes.pictures.map import CodesMap, Grid, Method


@options.takes_data
def map_(
    data: show_options.CodesOrData,
    layer: show_options.LayerOfCodes = None,
    weights: show_options.OptionalSubject = None,
    network: options.Network = None,
    method: show_options.Method = "tsne",
    perplexity: show_options.Perplexity = 30.0,
    split: show_options.OnlySplit = "all",
    limit: codes_options.Limit = None,
    points: show_options.Points = None,
    seed: options.Seed = 0,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """The images themselves on a map: alike codes lie close together.

    The codes are laid out in two dimensions, and each image moves to a cell of its own on a grid, near its place;
    frames have the colour of the class. Classes that form regions are easy to tell apart by these codes; an image
    amid another class is worth a look: a hard one, or a wrong label. How far to believe the picture, the shares tell:
    how many of an image's ten nearest have its class, on the map and in the codes. Up to 2,500 images, unless
    --limit says otherwise; a grid never has more. Images that cannot be read are listed; the exit code is then 3.

        cnncodes show map codes.h5

        cnncodes show map photos/ --weights starter --layer fc6 --split val --points points.png -o map.png
    """
    from cnncodes.pictures.map import MOST, arrange, draw_map, map_thumbnails, read_map

    reporter = Reporter(json, quiet)
    path = picture_path(output, "map", overwrite)
    _check_points(points, path, overwrite)
    with (
        codes_at_hand(
            reporter,
            data,
            layer,
            weights,
            network,
            reading,
            device,
            workers,
            split=split,
            limit=limit or MOST,
        ) as source,
        reporter.progress("mapping", 1) as update,
    ):
        found = read_map(
            source, method=cast("Method", method), seed=seed, perplexity=perplexity, split=split,
            limit=limit or MOST, progress=lambda _, done, total, word: update(done, word),
        )  # fmt: skip
    with reporter.progress("arranging on a grid", 1):
        grid = arrange(found)
    with reporter.progress("reading images", len(grid.shown), "images") as update:
        thumbnails = map_thumbnails(found, grid, lambda done: update(done, ""))
    unreadable = source.problems | {
        found.catalog.names[grid.shown[place]]: why for place, why in thumbnails.problems.items()
    }
    _tell(reporter, found)
    tell_unreadable(reporter, unreadable, MOVED)
    if points is not None:
        _draw_points(reporter, found, points)
    document = _document(found, grid) | {"points": points, "unreadable": unreadable}
    finish(reporter, draw_map(found, grid, thumbnails), path, document)
    next_on(reporter, "neighbours", data, reading, weights, f"--image {shell(found.catalog.names[0])}")
    if unreadable:
        raise options.Exit(3)


def _check_points(points: str | None, path: Path, overwrite: bool) -> None:
    """Refuse early what could not be written after the work."""
    if points is None:
        return
    options.check_picture(points, ".png", overwrite)
    if Path(points).absolute() == path.absolute():
        raise OptionError(f"--points and -o both name '{path}'.", "Give the two pictures two names.")


def _draw_points(reporter: Reporter, found: CodesMap, points: str) -> None:
    from cnncodes.pictures.drawing import save_png
    from cnncodes.pictures.map import draw_map_points

    save_png(draw_map_points(found), points)
    reporter.result(f"written: {points}")


def _document(found: CodesMap, grid: Grid) -> dict[str, Any]:
    """The map as JSON, with the cell of every image that is drawn."""
    document = found.to_json()
    for place, (row, column) in zip(grid.shown.tolist(), grid.cells.tolist(), strict=True):
        document["images"][place] |= {"grid_row": row, "grid_column": column}
    return document


def _tell(reporter: Reporter, found: CodesMap) -> None:
    """Which images and codes, and the shares of neighbours of the same class as a table."""
    if found.choice:
        reporter.note(f"codes of {found.layer}, {found.choice}; --layer names another")
    if len(found) < found.of:
        reporter.note(f"{len(found):,} of {found.of:,} images, spread evenly; --limit takes another number")
    if found.purity is None:
        return
    rows = [(name.replace("_", " "), percent(share)) for name, share in vars(found.purity).items()]
    reporter.table("of the 10 nearest, how many share an image's class", ("", "share"), rows)
