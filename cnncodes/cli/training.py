"""What `train` and `finetune` share: a bar for each epoch, the table at the end."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli.console import Reporter
from cnncodes.cli.options import Exit, Reading
from cnncodes.core.words import counted, duration, one_line, percent, quoted, shell

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.images import Catalog
    from cnncodes.training import Callback, RangeTest, Training, TrainingResult, TrainingSettings
    from cnncodes.training.state import Epoch


def read_sets(reporter: Reporter, data: list[str], more: list[str], reading: Reading) -> Catalog:
    """The images to learn from, of one data set or several joined; says what they are."""
    from cnncodes.images import join_catalogs, read_catalog
    from cnncodes.images.sources import is_list

    sources = [data, *([name] for name in more)]
    listed = [all(map(is_list, source)) for source in sources]
    catalogs = []
    for source, lists in zip(sources, listed, strict=True):
        own = reading
        if any(listed) and not all(listed):  # what is said of tables is not said of folders
            own = {name: value for name, value in reading.items() if (name == "classes_are") != lists}
        catalogs.append(read_catalog(source, **own))
    catalog = join_catalogs(catalogs) if more else catalogs[0]
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        reporter.note(catalog.describe())
    return catalog


@contextmanager
def watch(reporter: Reporter, recipe: Recipe, output: str) -> Iterator[dict[str, Any]]:
    """What a training needs to show how it goes, as its keywords. The recipe is kept in the run's folder."""
    with ExitStack() as bars:
        shown = Watch(reporter, recipe, output, bars)
        yield {"progress": shown.progress, "callbacks": [hooks(shown)], "notes": reporter.warn}


def hooks(shown: Watch) -> Callback:
    """The hooks of a training by which it is shown; torch is imported by the training anyway."""
    from cnncodes.training import Callback

    class Hooks(Callback):
        def on_train_begin(self, training: Training) -> None:
            shown.begin(training)

        def on_rate_found(self, training: Training, test: RangeTest) -> None:
            shown.rate_found(test)

        def on_epoch_end(self, training: Training, line: Epoch) -> None:
            shown.epoch_done(line)

    return Hooks()


class Watch:
    """A bar for each epoch, or a line where there are no bars."""

    def __init__(self, reporter: Reporter, recipe: Recipe, output: str, bars: ExitStack) -> None:
        self._reporter, self._recipe, self._output, self._bars = reporter, recipe, output, bars
        self._epochs = recipe.training.epochs
        self._shown = ""  # the step that has the bar
        self._advance: Callable[[float, str], None] = lambda done, text: None

    def begin(self, training: Training) -> None:
        """Say what will be trained, on what, and from where it goes on."""
        from cnncodes.training.range_test import MOST_STEPS

        note = self._reporter.note
        self._keep(training.settings)
        if training.frozen is not None:
            count = training.frozen.views
            views = "one view" if count == 1 else f"{count} views"
            note(f"what {training.frozen.boundary} gives for {views} of each image is computed once")
        first = training.learner.begins
        note(
            f"{len(training.train_rows):,} images to learn from, {len(training.val_rows):,} to watch, "
            f"{len(training.inputs.test_rows):,} to test at the end, "
            f"{counted(self._epochs, 'epoch')} of {counted(training.steps_per_epoch, 'step')}, on {training.device.description}; "
            f"learning begins at {first}"
        )
        if training.settings.learning_rate == "auto":
            note(f"the learning rate is measured first, which takes up to {MOST_STEPS} steps")
        if training.state.steps:
            note(f"going on in epoch {training.state.epoch + 1} at step {training.state.steps:,}")

    def progress(self, step: str, done: float, total: int, word: str) -> None:
        """Advance the bar of a step; the first call of each makes it."""
        from cnncodes.training.inputs import FROZEN

        if step != self._shown:
            self._bars.close()
            unit = "views" if step == FROZEN else "images"
            self._advance = self._bars.enter_context(self._reporter.progress(step, total, unit))
            self._shown = step
        self._advance(done, word)

    def rate_found(self, test: RangeTest) -> None:
        """Draw the curve of a range test, and keep the rate."""
        from cnncodes.pictures.curves import RATES_FILE, draw_rates

        picture = draw_rates(test, Path(self._output) / RATES_FILE)
        self._keep(dataclasses.replace(self._recipe.training, learning_rate=test.rate))
        self._reporter.note(f"{test.explain()}; curve: {picture}")

    def epoch_done(self, line: Epoch) -> None:
        """A line for an epoch where there are no bars."""
        if self._reporter.has_bars:
            return
        val = "" if line.val_loss is None else f", val {line.val_loss:.3f} ({percent(line.val_accuracy)})"
        self._reporter.note(
            f"epoch {line.epoch} of {self._epochs}: loss {line.loss:.3f} ({percent(line.accuracy)}){val}, "
            f"{duration(line.seconds)}"
        )

    def _keep(self, settings: TrainingSettings) -> None:
        dataclasses.replace(self._recipe, training=settings).save(self._output)


def report(reporter: Reporter, result: TrainingResult, catalog: Catalog) -> None:
    """The table of epochs, their curves as a picture, the result, and the next command; by one of several processes."""
    if not result.leads:
        return
    from cnncodes.pictures import draw_curves
    from cnncodes.pictures.curves import FILE

    if result.already:
        reporter.note("the run is finished: this is its result")
    _print_epochs(reporter, result)
    seconds = sum(line.seconds for line in result.epochs)
    best = result.best
    accuracy = "" if best.val_accuracy is None else f", val accuracy {percent(best.val_accuracy)}"
    reporter.result(
        f"{counted(len(result.epochs), 'epoch')} in {duration(seconds)}; kept: epoch {best.epoch}{accuracy}"
    )
    reporter.result(f"split: {one_line(result.split.how)}")
    test = _print_test(reporter, result)
    curves = draw_curves(
        result.epochs,
        result.folder / FILE,
        title=f"{result.folder.resolve().name}: {counted(len(result.epochs), 'epoch')}",
    )
    reporter.note(f"written: {result.model} ({len(result.classes)} classes), {curves}")
    learned, watched = (
        sum(catalog.names[row] not in result.unreadable for row in rows)
        for rows in (result.split.train, result.split.choose)
    )
    reporter.document(
        {
            "model": str(result.model),
            "images": learned,
            "watched": watched,
            "split": result.split.how,
            "test": test,
            "curves": str(curves),
            "classes": list(result.classes),
            "best": json.loads(json.dumps(dataclasses.asdict(best))),
            "epochs": [dataclasses.asdict(line) for line in result.epochs],
            "unreadable": result.unreadable,
        }
    )
    for name, reason in result.unreadable.items():
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    if result.unreadable:
        reporter.warn(f"so {learned:,} images were learned from and {watched:,} watched")
    reporter.next(f"cnncodes predict {shell(result.model)} photo.jpg")
    if result.unreadable:
        raise Exit(3)


def _print_test(reporter: Reporter, result: TrainingResult) -> dict[str, Any] | None:
    """What the network is worth on the images that had no part in it: printed, and as figures."""
    if result.test is None:
        reporter.result("tested on nothing: no image was kept to test")
        return None
    from cnncodes.evaluation.metrics import wilson_interval

    found = result.test
    low, high = wilson_interval(round(found.accuracy * found.images), found.images)
    reporter.result(
        f"test accuracy {percent(found.accuracy)} on {counted(found.images, 'image')} that had no part in the training "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    return dataclasses.asdict(found) | {"accuracy_low": low, "accuracy_high": high}


def _print_epochs(reporter: Reporter, result: TrainingResult) -> None:
    rows = [
        (
            line.epoch,
            f"{line.loss:.3f}",
            percent(line.accuracy),
            None if line.val_loss is None else f"{line.val_loss:.3f}",
            percent(line.val_accuracy),
            "<-" if line.epoch == result.best.epoch else "",
        )
        for line in result.epochs
    ]
    reporter.table("", ("epoch", "loss", "accuracy", "val loss", "val accuracy", ""), rows)
