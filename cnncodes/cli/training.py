"""`cnncodes finetune` and `cnncodes train`: a bar for each epoch, the table at the end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import heads, networks, training
from cnncodes.cli import options
from cnncodes.cli.arguments import load_weights, parse_split
from cnncodes.cli.console import Reporter
from cnncodes.cli.groups import Machine, Reading
from cnncodes.cli.recipes import choose_recipe
from cnncodes.core.words import counted, duration, one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.advice.recipe_schema import Method
    from cnncodes.images import Catalog
    from cnncodes.training import RangeTest, Training, TrainingResult, TrainingSettings
    from cnncodes.training.state import Epoch


@dataclasses.dataclass(frozen=True)
class Learning(options.Group):
    """What `finetune` and `train` have in common."""

    recipe: options.Recipe = None
    epochs: options.Epochs = None
    more: options.MoreData = None
    split: options.SplitRule = "auto"
    set_: options.Set = None
    seed: options.TrainingSeed = None
    batch_size: options.TrainingBatch = None
    resume: options.Resume = False
    keep_checkpoints: options.KeepCheckpoints = False

    def choose(self, method: Method, given: Mapping[str, tuple[str, object]]) -> Recipe:
        """The recipe with the options; ``given`` are those that only this method has."""
        own = {"epochs": self.epochs, "batch_size": self.batch_size, "seed": self.seed}
        shared = {f"--{name.replace('_', '-')}": (f"train.{name}", value) for name, value in own.items()}
        return choose_recipe(method, self.recipe, self.set_, {**given, **shared})

    @property
    def keywords(self) -> dict[str, Any]:
        """What both functions of :mod:`cnncodes.training` take."""
        kept = {"resume": self.resume, "keep_checkpoints": self.keep_checkpoints}
        return kept | {"split": parse_split(self.split)}


def finetune(
    data: options.Data,
    output: options.TrainingFolder,
    freeze: options.Freeze = None,
    weights: options.StartWeights = None,
    model: options.Network = None,
    fit: options.OneFit = None,
    keep_head: options.KeepHead = False,
    head: options.StartHead = None,
    *,
    learning: Learning,
    machine: Machine,
    reading: Reading,
    reporter: Reporter,
) -> None:
    """Fine-tune a network on your images.

    All layers learn, except those that --freeze names. The last layer is replaced for the new classes; pretrained layers learn
    at a tenth of its rate. The epoch with the lowest validation loss is saved, and tested once at the end on images that
    were not used before: the test split of the data, else the images that 'cnncodes run' keeps for testing. Ctrl-C and
    SIGTERM save the state, and --resume continues at that step.

        cnncodes finetune photos/ --freeze conv1-3 -o run

        cnncodes finetune photos/ --recipe large-similar --epochs 5 -o run

        cnncodes finetune photos/ --fit pad -o run             all of each photo, not only its centre

        cnncodes finetune photos/ --head linear.safetensors -o run

        cnncodes extract photos/ -o codes.h5 --weights run/model.safetensors
    """
    given = {"--freeze": ("train.freeze", freeze), "--weights": ("network.weights", weights)}
    given |= {"--fit": ("images.fit", "shorter" if fit == "crop" else fit)}
    chosen = learning.choose("finetune", given)
    settings = chosen.training_settings()
    catalog = read_sets(reporter, data, learning.more or [], reading)
    loaded = load_weights(reporter, chosen.weights, model, chosen.fit)
    fitted = heads.load_model(head) if head else None
    with watch(reporter, chosen, output) as shown:
        result = training.finetune(
            catalog, loaded, output, settings, keep_head=keep_head, head=fitted,
            **learning.keywords, **vars(machine), **shown,
        )  # fmt: skip
    report(reporter, result, catalog)


def train(
    data: options.Data,
    output: options.TrainingFolder,
    model: options.NewNetwork = None,
    activation: options.Activation = None,
    *,
    learning: Learning,
    machine: Machine,
    reading: Reading,
    reporter: Reporter,
) -> None:
    """Train a network from random initial weights.

    Needs many images and a GPU.

        cnncodes train photos/ -o run --epochs 90 --set train.pca_noise=0.1

        cnncodes train photos/ -o run --recipe scratch

        cnncodes train birds/ --data flowers/ -o run
    """
    given = {"--model": ("network.name", model), "--activation": ("network.activation", activation)}
    chosen = learning.choose("train", given)
    settings = chosen.training_settings()
    network = networks.get_network(chosen.network)
    catalog = read_sets(reporter, data, learning.more or [], reading)
    with watch(reporter, chosen, output) as shown:
        result = training.train(
            catalog, network, chosen.images, output, settings, **learning.keywords, **vars(machine), **shown
        )
    report(reporter, result, catalog)


def read_sets(reporter: Reporter, data: list[str], more: list[str], reading: Reading) -> Catalog:
    """The images to learn from, of one data set or several joined; says what they are."""
    from cnncodes.images import corrected, join_catalogs
    from cnncodes.images.sources import is_list

    sources = [data, *([name] for name in more)]
    listed = [all(map(is_list, source)) for source in sources]
    catalogs = []
    for source, lists in zip(sources, listed, strict=True):
        own = dataclasses.replace(reading, labels=None, exclude=None)  # those are for all of them together
        if any(listed) and not all(listed):  # options of tables are not for folders, nor the other way round
            ours = {name: value for name, value in vars(own).items() if (name == "classes_are") != lists}
            own = Reading(**ours)
        catalogs.append(own.catalog(source))
    catalog = join_catalogs(catalogs) if more else catalogs[0]
    catalog = corrected(catalog, reading.labels or (), reading.exclude or ())
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        reporter.note(catalog.describe())
    return catalog


@contextmanager
def watch(reporter: Reporter, recipe: Recipe, output: str) -> Iterator[dict[str, Any]]:
    """What shows a training, as its keywords: a bar for each epoch, or lines. The recipe is kept in the run's folder."""
    from cnncodes.training.inputs import FROZEN
    from cnncodes.training.range_test import MOST_STEPS

    def keep(settings: TrainingSettings) -> None:
        dataclasses.replace(recipe, training=settings).save(output)

    class Watch(training.Callback):
        def on_train_begin(self, training: Training) -> None:
            keep(training.settings)
            if training.frozen is not None:
                views = counted(training.frozen.views, "view")
                reporter.note(
                    f"the output of {training.frozen.boundary} is computed once, for {views} of each image"
                )
            steps = (
                f"{counted(recipe.training.epochs, 'epoch')} of {counted(training.steps_per_epoch, 'step')}"
            )
            reporter.note(
                f"{len(training.train_rows):,} training, {len(training.val_rows):,} validation and "
                f"{len(training.inputs.test_rows):,} test images, {steps}, on {training.device.description}; "
                f"trained from {training.learner.begins}"
            )
            if training.settings.learning_rate == "auto":
                reporter.note(f"the learning rate is measured first, in up to {MOST_STEPS} steps")
            if training.state.steps:
                reporter.note(
                    f"continuing in epoch {training.state.epoch + 1} at step {training.state.steps:,}"
                )

        def on_rate_found(self, training: Training, test: RangeTest) -> None:
            from cnncodes.pictures.results import RATES_FILE, draw_rates

            picture = draw_rates(test, Path(output) / RATES_FILE)
            keep(dataclasses.replace(recipe.training, learning_rate=test.rate))
            reporter.note(f"{test.explain()}; curve: {picture}")

        def on_epoch_end(self, training: Training, line: Epoch) -> None:
            if reporter.has_bars:
                return
            val = "" if line.val_loss is None else f", val {line.val_loss:.3f} ({percent(line.val_accuracy)})"
            reporter.note(
                f"epoch {line.epoch} of {recipe.training.epochs}: loss {line.loss:.3f} ({percent(line.accuracy)}){val}, "
                f"{duration(line.seconds)}"
            )

    with reporter.steps(units={FROZEN: "views"}) as progress:
        yield {"progress": progress, "callbacks": [Watch()], "notes": reporter.warn}


def report(reporter: Reporter, result: TrainingResult, catalog: Catalog) -> None:
    """The table of epochs, their curves as a picture, the result, and the next command; by one of several processes."""
    if not result.leads:
        return
    from cnncodes.pictures.results import FILE, draw_curves

    if result.already:
        reporter.note("already finished; this is the result")
    _print_epochs(reporter, result)
    seconds = sum(line.seconds for line in result.epochs)
    best = result.best
    accuracy = "" if best.val_accuracy is None else f", val accuracy {percent(best.val_accuracy)}"
    reporter.result(
        f"{counted(len(result.epochs), 'epoch')} in {duration(seconds)}; kept: epoch {best.epoch}{accuracy}"
    )
    reporter.result(f"split: {one_line(result.split.how)}")
    test = _print_test(reporter, result)
    title = f"{result.folder.resolve().name}: {counted(len(result.epochs), 'epoch')}"
    curves = draw_curves(result.epochs, result.folder / FILE, title=title)
    reporter.note(f"written: {result.model} ({len(result.classes)} classes), {curves}")
    learned, watched = (
        sum(catalog.names[row] not in result.unreadable for row in rows)
        for rows in (result.split.train, result.split.choose)
    )
    reporter.document(
        model=str(result.model), images=learned, watched=watched, split=result.split.how, test=test, curves=str(curves),
        classes=list(result.classes), best=best, epochs=list(result.epochs), unreadable=result.unreadable,
    )  # fmt: skip
    reporter.unreadable(result.unreadable)
    if result.unreadable:
        reporter.warn(f"so {learned:,} images were used for training and {watched:,} for validation")
    reporter.next(f"cnncodes predict {shell(result.model)} photo.jpg")


def _print_test(reporter: Reporter, result: TrainingResult) -> dict[str, Any] | None:
    """The result on the test images: printed, and as figures."""
    if result.test is None:
        reporter.result("not tested: no test images")
        return None
    from cnncodes.evaluation.metrics import wilson_interval

    found = result.test
    low, high = wilson_interval(round(found.accuracy * found.images), found.images)
    reporter.result(
        f"test accuracy {percent(found.accuracy)} on {counted(found.images, 'image')} not used in training "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    return dataclasses.asdict(found) | {"accuracy_low": low, "accuracy_high": high}


def _print_epochs(reporter: Reporter, result: TrainingResult) -> None:
    rows = [
        (
            line.epoch, f"{line.loss:.3f}", percent(line.accuracy),
            None if line.val_loss is None else f"{line.val_loss:.3f}", percent(line.val_accuracy),
            "<-" if line.epoch == result.best.epoch else "",
        )
        for line in result.epochs
    ]  # fmt: skip
    reporter.table("", ("epoch", "loss", "accuracy", "val loss", "val accuracy", ""), rows)
