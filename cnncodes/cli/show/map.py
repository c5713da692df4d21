"""`cnncodes show map`: the images of a codes file, laid out by their codes."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import cast

from cnncodes.cli import codes_options, options, show_options
from cnncodes.cli.console import Reporter, percent, shell
from cnncodes.cli.show.common import MOVED, finish, picture_path, tell_unreadable
from cnncodes.errors import OptionError


def map_(
    codes: options.Codes,
    layer: codes_options.OptionalLayer = None,
    method: show_options.Method = "tsne",
    perplexity: show_options.Perplexity = 30.0,
    split: show_options.OnlySplit = "all",
    limit: codes_options.Limit = None,
    points: show_options.Points = None,
    root: codes_options.Root = None,
    seed: options.Seed = 0,
    output: show_options.Picture = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The images themselves on a map: alike codes lie close together.

    The codes are laid out in two dimensions, and each image moves to a cell of its own on a grid, near its place;
    frames have the colour of the class. Classes that form regions are easy to tell apart by these codes; an image
    amid another class is worth a look: a hard one, or a wrong label. How far to believe the picture, the shares tell:
    how many of an image's ten nearest have its class, on the map and in the codes. Up to 2,500 images, unless
    --limit says otherwise; a grid never has more. Images that cannot be read any more are listed; the exit code is
    then 3.

        cnncodes show map codes.h5

        cnncodes show map codes.h5 --layer fc6 --split val --points points.png -o map.png
    """
    from cnncodes.pictures.map import Method
    from cnncodes.pictures.map_drawing import arrange, draw_map, draw_map_points, map_thumbnails
    from cnncodes.pictures.map_record import MOST, read_map

    reporter = Reporter(json, quiet)
    path = picture_path(output, "map", overwrite)
    if points is not None:
        options.check_picture(points, ".png", overwrite)
        if Path(points).absolute() == path.absolute():
            raise OptionError(f"--points and -o both name '{path}'.", "Give the two pictures two names.")
    with reporter.progress("mapping", 1) as update:
        found = read_map(
            codes, layer=layer, method=cast(Method, method), seed=seed, perplexity=perplexity, split=split,
            limit=limit or MOST, root=root, progress=update,
        )  # fmt: skip
    with reporter.progress("arranging on a grid", 1):
        grid = arrange(found)
    with reporter.progress("reading images", len(grid.shown), "images") as update:
        thumbnails = map_thumbnails(found, grid, lambda done: update(done, ""))
    unreadable = {found.catalog.names[grid.shown[place]]: why for place, why in thumbnails.problems.items()}
    _tell(reporter, found.purity)
    tell_unreadable(reporter, unreadable, MOVED)
    document = json_module.loads(found.to_json())
    for place, (row, column) in zip(grid.shown.tolist(), grid.cells.tolist(), strict=True):
        document["images"][place] |= {"grid_row": row, "grid_column": column}
    if points is not None:
        from cnncodes.pictures.drawing import save_png

        save_png(draw_map_points(found), points)
        reporter.result(f"written: {points}")
    document |= {"points": points, "unreadable": unreadable}
    finish(reporter, draw_map(found, grid, thumbnails), path, document)
    reporter.next(f"cnncodes show neighbours {shell(codes)} --image {shell(found.catalog.names[0])}")
    if unreadable:
        raise options.Exit(3)


def _tell(reporter: Reporter, purity: object) -> None:
    """The shares of neighbours of the same class, as a table."""
    if purity is None:
        return
    shares = vars(purity)
    rows = [(name.replace("_", " "), percent(share)) for name, share in shares.items()]
    reporter.table("of the 10 nearest, how many share an image's class", ("", "share"), rows)
