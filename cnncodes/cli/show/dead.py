"""`cnncodes show dead`: units that never fire on a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli import codes_options, options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import finish, picture_path, tell_left_out, tell_unreadable
from cnncodes.core.words import percent, shell

if TYPE_CHECKING:
    from cnncodes.pictures.dead import Firing

FIRST_UNITS = 8  # of each layer, and unreadable images, on the screen; --json has all


@options.takes_data
def dead(
    data: options.Data,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    layer: show_options.ReluLayers = None,
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
    """Which units fire on no image? Their share in each layer, and how often the others fire.

    A unit that gives 0 everywhere gets no gradient and does not learn any more; in convolutions that is a sign of a
    learning rate that was too high (CS231n). In fc6 and fc7 it need not be: their units answer to few things, and what
    no image shows, no unit can answer to. So a unit that fires on none of 300 images may still fire on 1 % of such images;
    ask with many different ones. A unit of a convolution is a channel; it fires if it does so at any place. The last
    layer (fc8) and values before a ReLU (fc7:linear) have no ReLU, so they cannot be dead.

    DATA can be a codes file (.h5) instead; its own weights and layers count then.

        cnncodes show dead photos/ --weights starter

        cnncodes show dead photos/ --weights run/network.safetensors --limit 500 -o dead.png
    """
    from cnncodes.evaluation.scores import is_codes
    from cnncodes.images import Catalog
    from cnncodes.pictures.classifier import load_classifier
    from cnncodes.pictures.dead import count_firing, draw_dead

    reporter = Reporter(json, quiet)
    path = picture_path(output, "dead", overwrite)
    stored = is_codes(data)
    looked_at = options.read_images(data, reading, stored=stored)
    subject = None if stored else load_classifier(weights, network=network, device=device)
    with reporter.progress("counting", 100) as update:
        found = count_firing(
            looked_at, subject, stages=layer, split=split, limit=limit, workers=workers,
            progress=lambda _, done, total, word: update(100 * done / total, f"{done:,.0f} of {total:,} images"),
        )  # fmt: skip
    if isinstance(looked_at, Catalog):
        tell_left_out(reporter, looked_at)
    _tell(reporter, found)
    tell_unreadable(reporter, found.problems)
    finish(reporter, draw_dead(found), path, found.to_json())
    if not stored:
        reporter.next(
            f"cnncodes show strongest {options.words(data, reading)} --weights {shell(weights)} --layer {found.worst}"
        )
    if found.problems:
        raise options.Exit(3)


def _tell(reporter: Reporter, found: Firing) -> None:
    """A row for each layer, and what may be concluded."""
    rows = []
    for stage, counts in found.counts.items():
        units = found.dead(stage)
        first = ", ".join(map(str, units[:FIRST_UNITS])) + (", ..." if len(units) > FIRST_UNITS else "")
        rows.append((stage, len(counts), len(units), percent(found.share(stage)), first))
    title = f"units that fired on none of {found.images:,} images"
    reporter.table(title, ("layer", "units", "on none", "share", "which"), rows)
    reporter.result(found.meaning())
    if found.left_out:
        reporter.note(f"not counted, since there is no ReLU: {', '.join(found.left_out)}")
