"""`cnncodes show neighbours`: the nearest images by codes, beside those by pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import MOVED, codes_at_hand, finish, next_on, picture_path, tell_unreadable
from cnncodes.core.words import one_line

if TYPE_CHECKING:
    from cnncodes.codes.search import Metric
    from cnncodes.pictures.neighbours import Neighbours


@options.takes_data
def neighbours(
    data: show_options.CodesOrData,
    image: show_options.Queries,
    k: show_options.Nearest = None,
    layer: show_options.LayerOfCodes = None,
    metric: show_options.Metric = "cosine",
    weights: show_options.WeightsOfNew = None,
    network: options.Network = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """The nearest images of an image, by codes and by pixels.

    By codes, images of the same kind of thing are close, whatever their colours and places; by pixels, those with the
    same colours in the same places. So the difference of the two blocks is what the network has learned. The search is
    exact. An image of the file is no neighbour of itself; copies of it are named. Images that cannot be read any more are
    listed; the exit code is then 3.

        cnncodes show neighbours codes.h5 --image ants/12.jpg

        cnncodes show neighbours photos/ --weights starter --image new.jpg --image bees/3.jpg -k 8 -o nearest.png
    """
    from cnncodes.pictures.neighbours import draw_neighbours, find_neighbours

    reporter = Reporter(json, quiet)
    path = picture_path(output, "neighbours", overwrite)
    with (
        codes_at_hand(
            reporter, data, layer, weights, network, reading, device, workers, new_images=True, queries=image
        ) as source,
        reporter.progress("comparing", 1) as update,
    ):
        found = find_neighbours(
            source, image, k=k, metric=cast("Metric", metric), weights=None if source.weights else weights,
            device=device,
            progress=lambda _, done, total, word: update(done / total, f"pixels of {total:,} images"),
        )  # fmt: skip
    _tell(reporter, found)
    problems = source.problems | found.problems
    tell_unreadable(reporter, problems, MOVED)
    document = found.to_json() | {"unreadable": problems}
    finish(reporter, draw_neighbours(found), path, document)
    next_on(reporter, "map", data, reading, weights)
    if problems:
        raise options.Exit(3)


def _tell(reporter: Reporter, found: Neighbours) -> None:
    """Which codes, and the neighbours of every image as tables."""
    if found.choice:
        reporter.note(f"codes of {found.layer}, {found.choice}; --layer names another")
    for query in found.queries:
        for title, answers in (("codes", query.by_codes), ("pixels", query.by_pixels)):
            rows = [
                (answer.name, answer.class_name, f"{answer.distance:.4f}", "yes" if answer.copy else "")
                for answer in answers
            ]
            if rows:
                title = f"{one_line(query.name)}: nearest by {title}"
                reporter.table(title, ("image", "class", "distance", "copy"), rows)
