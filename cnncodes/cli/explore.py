"""`cnncodes explore`: groups, copies and strange images among images that need no labels."""

from __future__ import annotations

from pathlib import Path

from cnncodes import evaluation, page
from cnncodes.cli import options
from cnncodes.cli.arguments import Machine, Reading, load_weights
from cnncodes.cli.console import Reporter
from cnncodes.cli.predict import say_sorted
from cnncodes.core.errors import OptionError
from cnncodes.core.words import counted, quoted

FIRST = 3  # copies and strange images named on the screen


def explore(
    reporter: Reporter,
    machine: Machine,
    reading: Reading,
    data: options.Data,
    output: options.Folder,
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    layer: options.OneLayer = None,
    smallest: options.SmallestGroup = None,
    sort_into: options.SortInto = None,
    copy: options.Copy = False,
    title: options.PageTitle = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Find groups and copies in images without labels.

    Also names images that are unlike all others. Writes a page with a map of the images, on which a click shows the images that are most alike, and the groups can be given
    names; groups.csv with one line per image; and the codes. The number of groups is found, not asked for; an image between
    groups is in none. If interrupted, repeat the same command to continue; if the folder has grown, only new images are
    computed. An unreadable image is listed with the reason; the exit code is then 3.

        cnncodes explore photos/ -o explore
        cnncodes run photos/ --classes-are none --labels labels.csv -o out     labels.csv: saved on the page
        cnncodes explore photos/ -o explore --sort-into sorted/     a folder per group, to be renamed
    """
    from cnncodes.page.exploring import PAGE, as_predictions, labels_command

    if copy and sort_into is None:
        raise OptionError("--copy needs --sort-into.", "Add it, or leave --copy out.")
    if sort_into is not None:
        evaluation.check_sorted(sort_into)
    reading = reading.unlabelled()
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())
    loaded = load_weights(reporter, weights, model)
    words = reading.words(data, model)
    with reporter.steps() as progress:
        found = page.explore(
            catalog, loaded, output, layer=layer, smallest=smallest, title=title, data=words, seed=seed,
            overwrite=overwrite, progress=progress, **vars(machine),
        )  # fmt: skip
    sizes = ", ".join(f"{size:,}" for size in found.groups[:12]) + (", ..." if found.groups[12:] else "")
    groups = counted(len(found.groups), "group") + (f" ({sizes} images)" if sizes else "")
    reporter.result(f"{groups}; {counted(found.alone, 'image')} in no group")
    copied = [image for image in found.images if image.copy_of is not None]
    for image in copied[:FIRST]:
        reporter.result(f"copy: {quoted(image.file)} of {quoted(image.copy_of or '')}")
    for image in found.strange[:FIRST]:
        far = f"{image.strange:.1f} times the usual distance"
        reporter.result(f"unlike all others: {quoted(image.file)}, {far}")
    if max(len(copied), len(found.strange)) > FIRST:
        others = f"{len(found.strange):,} images unlike all others"
        reporter.result(f"on the page: {len(copied):,} copies, {others}")
    reporter.unreadable(found.unreadable, "groups.csv lists all")
    reporter.note(f"page: {Path(output) / PAGE}")
    if sort_into is not None:
        sorted_ = evaluation.sort_images(as_predictions(found), catalog, sort_into, copy=copy)
        say_sorted(reporter, sorted_, sort_into)
        reporter.note("rename the folders of groups to classes, and remove what is none")
    reporter.document(found)
    reporter.next(f"name groups on the page, then: {labels_command(words, found.weights)}")
