"""Pictures of many images: `cnncodes show strongest`, `dead`, `map` and `neighbours`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnncodes import evaluation, pictures
from cnncodes.cli import options
from cnncodes.cli.arguments import Machine, Reading, check_picture
from cnncodes.cli.show.canvas import Canvas, NetworkChoice
from cnncodes.core.errors import OptionError
from cnncodes.core.words import one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.images import Catalog

FIRST_UNITS = 8  # of each layer on the screen; --json has all
MOVED = "--root names the current folder of the images"


def strongest(
    canvas: Canvas,
    machine: Machine,
    reading: Reading,
    data: options.DataOrCodes,
    layer: options.ShownLayer = "pool5",
    units: options.Units = None,
    count: options.MostVarying = 6,
    k: options.ImagesEach = None,
    weights: options.OptionalClassifier = None,
    model: options.Network = None,
    split: options.OnlySplit = "all",
    limit: options.Limit = None,
) -> None:
    """Draw the images that activate a unit most.

    Each image is cut to what the unit sees: 11 x 11 pixels in conv1 (an edge or a colour), about 99 in conv3 (a texture or a
    part), nearly all of the image in pool5 or fc7. What the images of a row have in common is what the unit responds to.
    Takes one pass over the images, or over a codes file that has the layer.

        cnncodes show strongest photos/ --weights starter --layer conv3
        cnncodes show strongest codes.h5 --layer pool5 --units 1,7,42 -o units.png
    """
    from cnncodes.pictures.units import parse_units

    canvas.open("strongest")
    images, root = _images_or_stored(data, reading)
    with canvas.steps() as progress:
        found = pictures.find_strongest(
            images, layer, parse_units(units, count), weights=weights, network=model, k=k, split=split, limit=limit,
            root=root, progress=progress, **vars(machine),
        )  # fmt: skip
    if units is None:
        canvas.note(f"the {len(found.units)} units that vary most over the images; --units selects others")
    canvas.left_out(found.catalog)
    rows = []
    for place, (unit, row) in enumerate(zip(found.units, found.rows[:, 0].tolist(), strict=True)):
        there = row >= 0
        image = one_line(found.catalog.names[row]) if there else "none"
        value = f"{found.values[place, 0]:.4g}" if there else None
        own = (one_line(found.names[place]),) if found.names else ()
        rows.append((f"{unit}", *own, percent(found.firing[place]), value, image))
    columns = ("unit", *(("class",) if found.names else ()), "fires on", "strongest", "image")
    canvas.table(f"{found.stage} on {found.images:,} images", columns, rows)
    canvas.unreadable(found.problems)
    canvas.draw(lambda: pictures.draw_strongest(found), found)
    first = int(found.rows[0, 0])
    if first >= 0:
        network = NetworkChoice(str(weights or found.weights), model)
        photo = shell(found.catalog.reader[first])
        canvas.next(f"cnncodes show activations {photo} {network.words} --layer {found.stage}")


def dead(
    canvas: Canvas,
    reading: Reading,
    data: options.Data,
    network: NetworkChoice,
    layer: options.ReluLayers = None,
    split: options.OnlySplit = "all",
    limit: options.Limit = None,
    workers: options.Workers = None,
) -> None:
    """Draw the share of units that fire on no image.

    Shows the share in each layer, and how often the other units fire. A unit that is always 0 gets no gradient and stops
    learning; in convolutions this is a sign of a learning rate that was too high (CS231n). In fc6 and fc7 it need not be:
    these units respond to few things, so use many different images. A unit of a convolution is a channel, and fires if it
    does so at any position. The last layer (fc8) and values before a ReLU (fc7:linear) cannot be dead.

    DATA can be a codes file (.h5) instead; its weights and layers are used then.

        cnncodes show dead photos/ --weights starter
        cnncodes show dead photos/ --weights run/network.safetensors --limit 500 -o dead.png
    """
    canvas.open("dead")
    stored = evaluation.is_codes(data)
    images = reading.images(data, stored=stored)
    classifier = None if stored else network.load()
    with canvas.steps() as progress:
        found = pictures.count_firing(
            images, classifier, stages=layer, split=split, limit=limit, workers=workers, progress=progress
        )
    if not isinstance(images, list):
        canvas.left_out(images)
    rows = []
    for stage, counts in found.counts.items():
        units = found.dead(stage)
        first = ", ".join(map(str, units[:FIRST_UNITS])) + (", ..." if len(units) > FIRST_UNITS else "")
        rows.append((stage, len(counts), len(units), percent(found.share(stage)), first))
    title = f"units that fired on none of {found.images:,} images"
    canvas.table(title, ("layer", "units", "on none", "share", "which"), rows)
    canvas.result(found.meaning())
    if found.left_out:
        canvas.note(f"not counted (no ReLU): {', '.join(found.left_out)}")
    canvas.unreadable(found.problems)
    canvas.draw(lambda: pictures.draw_dead(found), found)
    if not stored:
        canvas.next(f"cnncodes show strongest {reading.words(data)} {network.words} --layer {found.worst}")


def map_(
    canvas: Canvas,
    machine: Machine,
    reading: Reading,
    data: options.CodesOrData,
    layer: options.LayerOfCodes = None,
    weights: options.OptionalClassifier = None,
    model: options.Network = None,
    method: options.Method = "tsne",
    perplexity: options.Perplexity = 30.0,
    split: options.OnlySplit = "all",
    limit: options.Limit = None,
    points: options.Points = None,
    seed: options.Seed = 0,
) -> None:
    """Draw the images on a map by their codes.

    The codes are laid out in two dimensions, and each image moves to a cell of a grid near its place; frames have the colour
    of the class. Classes that form regions are easy to separate by these codes; an image amid another class may be hard or
    wrongly labelled. The printed shares (how many of an image's ten nearest have its class, on the map and in the codes)
    tell how far the picture can be trusted. Draws up to 2,500 images, unless --limit is smaller. Unreadable images are
    listed; the exit code is then 3.

        cnncodes show map codes.h5
        cnncodes show map photos/ --weights starter --layer fc6 --split val --points points.png -o map.png
    """
    from cnncodes.pictures.map import MOST, arrange, map_thumbnails

    canvas.open("map")
    if points is not None:
        check_picture(points, canvas.overwrite, "--points")
        if Path(points).absolute() == canvas.path.absolute():
            raise OptionError(
                f"-o and --points both name '{points}'.", "Give the two pictures different names."
            )
    used: dict[str, Any] = {"split": split, "limit": limit or MOST}
    asked = {"layer": layer, "weights": weights, "network": model, **used, **vars(machine)}
    with _codes_at_hand(canvas, data, reading, **asked) as source, canvas.steps("") as progress:
        drawn: dict[str, Any] = {"method": method, "perplexity": perplexity, "seed": seed, **used}
        found = pictures.read_map(source, progress=progress, **drawn)
    with canvas.progress("arranging on a grid", 1):
        grid = arrange(found)
    with canvas.progress("reading images", len(grid.shown), "images") as update:
        thumbnails = map_thumbnails(found, grid, lambda done: update(done, ""))
    lost = {found.catalog.names[grid.shown[place]]: why for place, why in thumbnails.problems.items()}
    unreadable = source.problems | lost
    _tell_layer(canvas, found)
    if len(found) < found.of:
        canvas.note(f"{len(found):,} of {found.of:,} images, evenly spread; --limit sets the number")
    if found.purity is not None:
        rows = [(name.replace("_", " "), percent(share)) for name, share in vars(found.purity).items()]
        canvas.table("of the 10 nearest, how many share an image's class", ("", "share"), rows)
    canvas.unreadable(unreadable, MOVED)
    if points is not None:
        canvas.write(lambda: pictures.draw_map_points(found), points)
    record = found.to_json()
    for place, (row, column) in zip(grid.shown.tolist(), grid.cells.tolist(), strict=True):
        record["images"][place] |= {"grid_row": row, "grid_column": column}
    draw = partial(pictures.draw_map, found, grid, thumbnails)
    canvas.draw(draw, record, points=points, unreadable=unreadable)
    same = _words(data, reading, weights, model)
    canvas.next(f"cnncodes show neighbours {same} --image {shell(found.catalog.names[0])}")


def neighbours(
    canvas: Canvas,
    machine: Machine,
    reading: Reading,
    data: options.CodesOrData,
    image: options.Queries,
    k: options.Nearest = None,
    layer: options.LayerOfCodes = None,
    metric: options.Metric = "cosine",
    weights: options.CodesClassifier = None,
    model: options.Network = None,
) -> None:
    """Draw the nearest images, by codes and by pixels.

    By codes, images of the same kind are close, whatever their colours and positions; by pixels, those with the same colours
    in the same places. The difference of the two blocks is what the network has learned. The search is exact. An image of
    the file is not its own neighbour; copies are marked. Unreadable images are listed; the exit code is then 3.

        cnncodes show neighbours codes.h5 --image ants/12.jpg
        cnncodes show neighbours photos/ --weights starter --image new.jpg --image bees/3.jpg -k 8 -o nearest.png
    """
    canvas.open("neighbours")
    asked: dict[str, Any] = {"layer": layer, "weights": weights, "network": model, **vars(machine)}
    asked |= {"new_images": True, "queries": image}
    with _codes_at_hand(canvas, data, reading, **asked) as source, canvas.steps() as progress:
        found = pictures.find_neighbours(
            source, image, k=k, metric=cast("Any", metric), weights=None if source.weights else weights,
            device=machine.device, progress=progress,
        )  # fmt: skip
    _tell_layer(canvas, found)
    for query in found.queries:
        for by, answers in (("codes", query.by_codes), ("pixels", query.by_pixels)):
            rows = [
                (answer.name, answer.class_name, f"{answer.distance:.4f}", "yes" if answer.copy else "")
                for answer in answers
            ]
            if rows:
                title = f"{one_line(query.name)}: nearest by {by}"
                canvas.table(title, ("image", "class", "distance", "copy"), rows)
    unreadable = source.problems | found.problems
    canvas.unreadable(unreadable, MOVED)
    canvas.draw(lambda: pictures.draw_neighbours(found), found, unreadable=unreadable)
    canvas.next(f"cnncodes show map {_words(data, reading, weights, model)}")


def _tell_layer(canvas: Canvas, found: pictures.CodesMap | pictures.Neighbours) -> None:
    if found.choice:
        canvas.note(f"codes of {found.layer}, {found.choice}; --layer selects another")


@contextmanager
def _codes_at_hand(
    canvas: Canvas, data: list[str], reading: Reading, **asked: Any
) -> Iterator[pictures.CodesSource]:
    """:func:`cnncodes.pictures.codes_source.codes_for` with a bar, and a note on what was computed."""
    images, root = _images_or_stored(data, reading)
    with ExitStack() as until_read:
        with canvas.progress("computing codes", 1, "") as update:
            source = until_read.enter_context(
                pictures.codes_for(
                    images, root=root, **asked,
                    progress=lambda done, total: update(done / total, f"{done:,} of {total:,} images"),
                )
            )  # fmt: skip
        if source.catalog is not None:
            canvas.left_out(source.catalog)
        if source.weights is not None:
            name = source.weights.name
            canvas.note(
                f"codes computed for this picture only (weights {name}); 'cnncodes extract' keeps them"
            )
        yield source


def _images_or_stored(data: list[str], reading: Reading) -> tuple[list[str] | Catalog, str | None]:
    """The catalog of images, or what holds codes and the current folder of its images (--root)."""
    from cnncodes.pictures.codes_source import kind_of

    if kind_of(data)[0] == "images":
        return reading.catalog(data), None
    return replace(reading, root=None).images(data, stored=True), reading.root


def _words(data: list[str], reading: Reading, weights: str | None, model: str | None) -> str:
    """The same data and network as words of another command."""
    return reading.words(data) + (f" {NetworkChoice(weights, model).words}" if weights else "")
