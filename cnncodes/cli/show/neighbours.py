"""`cnncodes show neighbours`: the nearest images by codes, beside those by pixels."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, cast

from cnncodes.cli import codes_options, options, show_options
from cnncodes.cli.console import Reporter, one_line, shell
from cnncodes.cli.show.common import MOVED, finish, picture_path, tell_unreadable

if TYPE_CHECKING:
    from cnncodes.codes.search import Metric


def neighbours(
    codes: options.Codes,
    image: show_options.Queries,
    k: show_options.Nearest = 6,
    layer: codes_options.OptionalLayer = None,
    metric: show_options.Metric = "cosine",
    weights: options.OptionalWeights = None,
    root: codes_options.Root = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """The nearest images of an image, by codes and by pixels.

    By codes, images of the same kind of thing are close, whatever their colours and places; by pixels, those with the
    same colours in the same places. So the difference of the two blocks is what the network has learned. The search is
    exact. An image of the file is no neighbour of itself; copies of it are named. Images that cannot be read any more are
    listed; the exit code is then 3.

        cnncodes show neighbours codes.h5 --image ants/12.jpg

        cnncodes show neighbours codes.h5 --image new.jpg --image bees/3.jpg --layer fc6 -k 8 -o nearest.png
    """
    from cnncodes.pictures.neighbours import find_neighbours
    from cnncodes.pictures.neighbours_drawing import draw_neighbours

    reporter = Reporter(json, quiet)
    path = picture_path(output, "neighbours", overwrite)
    with reporter.progress("comparing", 1) as update:
        found = find_neighbours(
            codes, image, k=k, layer=layer, metric=cast("Metric", metric), weights=weights, root=root,
            device=device,
            progress=lambda done, total: update(done / total, f"pixels of {total:,} images"),
        )  # fmt: skip
    for query in found.queries:
        for title, answers in (("codes", query.by_codes), ("pixels", query.by_pixels)):
            rows = [
                (answer.name, answer.class_name, f"{answer.distance:.4f}", "yes" if answer.copy else "")
                for answer in answers
            ]
            if rows:
                title = f"{one_line(query.name)}: nearest by {title}"
                reporter.table(title, ("image", "class", "distance", "copy"), rows)
    tell_unreadable(reporter, found.problems, MOVED)
    finish(reporter, draw_neighbours(found), path, json_module.loads(found.to_json()))
    reporter.next(f"cnncodes show map {shell(codes)}")
    if found.problems:
        raise options.Exit(3)
