"""What `train` and `finetune` share: a bar for each epoch, the table at the end."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli.console import Reporter, counted, duration, percent, quoted, shell
from cnncodes.cli.options import Exit
from cnncodes.errors import OptionError

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.images import Catalog
    from cnncodes.training import RangeTest, Training, TrainingResult
    from cnncodes.training.state import Epoch

Ready = Callable[["Training"], None]
Step = Callable[[int, int, float], None]


def read_sets(data: list[str], more: list[str], heads: str) -> tuple[Catalog, Any]:
    """The images to learn from, and the data set of each class where each has a head of its own."""
    from cnncodes.images import join_catalogs, read_catalog

    if heads not in ("joined", "each"):
        raise OptionError(f"--heads '{heads}' is not known.", "Use joined or each.")
    if not more:
        if heads == "each":
            raise OptionError("--heads each needs several data sets.", "Name the others with --data.")
        return read_catalog(data), None
    catalogs = [read_catalog(data), *(read_catalog(name) for name in more)]
    joined, sets = join_catalogs(catalogs, "apart" if heads == "each" else "name")
    return joined, sets if heads == "each" else None


@contextmanager
def watch(reporter: Reporter, recipe: Recipe, output: str) -> Iterator[tuple[Ready, Step]]:
    """A bar for each epoch; gives the two callbacks that a training takes. The recipe is kept in the run's folder."""
    settings = recipe.training
    with ExitStack() as stack:
        bars: dict[int, Callable[[float, str], None]] = {}
        images = [0, 0]

        def ready(training: Training) -> None:
            from cnncodes.training.range_test import MOST_STEPS

            dataclasses.replace(recipe, training=training.settings).save(output)
            training.rate_found, training.epoch_done = rate_found, epoch_done
            images[0] = len(training.train_rows)
            if training.frozen is not None:
                images[1] = training.frozen.rows
                count = training.frozen.views
                views = "one view" if count == 1 else f"{count} views"
                reporter.note(
                    f"what {training.frozen.boundary} gives for {views} of each image is computed once"
                )
            first = training.learner.module.network.stages[training.learner.first].name
            reporter.note(
                f"{images[0]:,} images to learn from, {len(training.val_rows):,} to watch, "
                f"{counted(settings.epochs, 'epoch')} of {counted(training.steps_per_epoch, 'step')}, on {training.device.description}; "
                f"learning begins at {first}"
            )
            if training.settings.learning_rate == "auto":
                reporter.note(f"the learning rate is measured first, which takes up to {MOST_STEPS} steps")
            if training.state.epoch >= settings.epochs:
                reporter.note("the run is finished: this is its result")
            elif training.state.steps:
                reporter.note(
                    f"going on in epoch {training.state.epoch + 1} at step {training.state.steps:,}"
                )

        def rate_found(test: RangeTest) -> None:
            from cnncodes.pictures.rates import FILE, draw_rates

            picture = draw_rates(test, Path(output) / FILE)
            measured = dataclasses.replace(settings, learning_rate=test.rate)
            dataclasses.replace(recipe, training=measured).save(output)
            reporter.note(f"{test.explain()}; curve: {picture}")

        def epoch_done(line: Epoch) -> None:
            if reporter.has_bars:
                return
            watched = (
                "" if line.val_loss is None else f", val {line.val_loss:.3f} ({percent(line.val_accuracy)})"
            )
            reporter.note(
                f"epoch {line.epoch} of {settings.epochs}: loss {line.loss:.3f} ({percent(line.accuracy)}){watched}, "
                f"{duration(line.seconds)}"
            )

        def progress(epoch: int, done: int, loss: float) -> None:
            if epoch not in bars:
                stack.close()
                what = f"epoch {epoch + 1} of {settings.epochs}" if epoch >= 0 else "frozen stages"
                total = images[0] if epoch >= 0 else images[1]
                bars[epoch] = stack.enter_context(
                    reporter.progress(what, total, "images" if epoch >= 0 else "views")
                )
            bars[epoch](done, f"loss {loss:.3f}" if epoch >= 0 else "")

        yield ready, progress


def report(reporter: Reporter, result: TrainingResult) -> None:
    """The table of epochs, their curves as a picture, the result, and the next command; by one of several processes."""
    if not result.leads:
        return
    from cnncodes.pictures import draw_curves
    from cnncodes.pictures.curves import FILE

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
    seconds = sum(line.seconds for line in result.epochs)
    best = result.best
    accuracy = "" if best.val_accuracy is None else f", val accuracy {percent(best.val_accuracy)}"
    reporter.result(
        f"{counted(len(result.epochs), 'epoch')} in {duration(seconds)}; kept: epoch {best.epoch}{accuracy}"
    )
    curves = draw_curves(
        result.epochs,
        result.folder / FILE,
        title=f"{result.folder.resolve().name}: {counted(len(result.epochs), 'epoch')}",
    )
    reporter.note(f"written: {result.model} ({len(result.classes)} classes), {curves}")
    reporter.document(
        {
            "model": str(result.model),
            "curves": str(curves),
            "classes": list(result.classes),
            "best": json.loads(json.dumps(dataclasses.asdict(best))),
            "epochs": [dataclasses.asdict(line) for line in result.epochs],
            "unreadable": result.unreadable,
        }
    )
    for name, reason in result.unreadable.items():
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    reporter.next(f"cnncodes predict {shell(result.model)} photo.jpg")
    if result.unreadable:
        raise Exit(3)
