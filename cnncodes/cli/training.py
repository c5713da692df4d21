"""`cnncodes finetune` and `cnncodes train`: a bar for each epoch, the table at the end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import advice, heads, images, networks, training
from cnncodes.cli import options
from cnncodes.cli.arguments import Machine, Reading, load_weights, parse_split
from cnncodes.cli.console import Reporter
from cnncodes.cli.recipes import choose_recipe
from cnncodes.core.words import counted, duration, one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.advice.recipe_schema import Method


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

    def choose(self, method: Method, given: Mapping[str, tuple[str, object]]) -> advice.Recipe:
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
    reporter: Reporter,
    learning: Learning,
    machine: Machine,
    reading: Reading,
    data: options.Data,
    output: options.TrainingFolder,
    freeze: options.Freeze = None,
    weights: options.StartWeights = None,
    model: options.Network = None,
    fit: options.OneFit = None,
    keep_head: options.KeepHead = False,
    head: options.StartHead = None,
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
    chosen = learning.choose(
        "finetune",
        {
            "--freeze": ("train.freeze", freeze),
            "--weights": ("network.weights", weights),
            "--fit": ("images.fit", "shorter" if fit == "crop" else fit),
        },
    )
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
    reporter: Reporter,
    learning: Learning,
    machine: Machine,
    reading: Reading,
    data: options.Data,
    output: options.TrainingFolder,
    model: options.NewNetwork = None,
    activation: options.Activation = None,
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


def read_sets(reporter: Reporter, data: list[str], more: list[str], reading: Reading) -> images.Catalog:
    """The images to learn from, of one data set or several joined; says what they are."""
    from cnncodes.images.sources import is_list

    sources = [data, *([name] for name in more)]
    listed = [all(map(is_list, source)) for source in sources]
    own = vars(dataclasses.replace(reading, labels=None, exclude=None))  # those are for all of them together
    catalogs = []
    for source, lists in zip(sources, listed, strict=True):
        ours = own
        if any(listed) and not all(listed):  # options of tables are not for folders, nor the other way round
            ours = {name: value for name, value in own.items() if (name == "classes_are") != lists}
        catalogs.append(Reading(**ours).catalog(source))
    catalog = images.join_catalogs(catalogs) if more else catalogs[0]
    catalog = images.corrected(catalog, reading.labels or (), reading.exclude or ())
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        reporter.note(catalog.describe())
    return catalog


@contextmanager
def watch(reporter: Reporter, recipe: advice.Recipe, output: str) -> Iterator[dict[str, Any]]:
    """What shows a training, as its keywords: a bar for each epoch, or lines. The recipe is kept in the run's folder."""
    from cnncodes.training.inputs import FILLING
    from cnncodes.training.range_test import MOST_STEPS

    def keep(settings: training.TrainingSettings) -> None:
        dataclasses.replace(recipe, training=settings).save(output)

    class Watch(training.Callback):
        def on_train_begin(self, run: training.Training) -> None:
            keep(run.settings)
            if run.frozen is not None:
                views = f"for {counted(run.frozen.views, 'view')} of each image"
                reporter.note(f"the output of {run.frozen.boundary} is computed once, {views}")
            epochs, steps = counted(recipe.training.epochs, "epoch"), counted(run.steps_per_epoch, "step")
            reporter.note(
                f"{len(run.train_rows):,} training, {len(run.val_rows):,} validation and "
                f"{len(run.inputs.test_rows):,} test images, {epochs} of {steps}, on {run.device.description}; "
                f"trained from {run.learner.begins}"
            )
            if run.settings.learning_rate == "auto":
                reporter.note(f"the learning rate is measured first, in up to {MOST_STEPS} steps")
            if run.state.steps:
                reporter.note(f"continuing in epoch {run.state.epoch + 1} at step {run.state.steps:,}")

        def on_rate_found(self, run: training.Training, test: training.RangeTest) -> None:
            from cnncodes.advice.facts import rate_found
            from cnncodes.pictures.results import RATES_FILE, draw_rates

            picture = draw_rates(test, Path(output) / RATES_FILE)
            keep(dataclasses.replace(recipe.training, learning_rate=test.rate))
            reporter.note(f"{rate_found(test)}; curve: {picture}")

        def on_epoch_end(self, run: training.Training, line: training.Epoch) -> None:
            if not reporter.has_bars:
                at = f"epoch {line.epoch} of {recipe.training.epochs}"
                learned = f"loss {line.loss:.3f} ({percent(line.accuracy)})"
                val = f", val {line.val_loss or 0:.3f} ({percent(line.val_accuracy)})"
                held = "" if line.val_loss is None else val
                reporter.note(f"{at}: {learned}{held}, {duration(line.seconds)}")

    with reporter.steps(units={FILLING: "views"}) as progress:
        yield {"progress": progress, "callbacks": [Watch()], "notes": reporter.warn}


def report(reporter: Reporter, result: training.TrainingResult, catalog: images.Catalog) -> None:
    """The table of epochs, their curves as a picture, the result, and the next command; by one of several processes."""
    if not result.leads:
        return
    from cnncodes.evaluation.metrics import wilson_interval
    from cnncodes.pictures.results import FILE, draw_curves

    if result.already:
        reporter.note("already finished; this is the result")
    best, rows = result.best, []
    for line in result.epochs:
        held = None if line.val_loss is None else f"{line.val_loss:.3f}"
        mark = "<-" if line.epoch == best.epoch else ""
        shares = percent(line.accuracy), held, percent(line.val_accuracy)
        rows.append((line.epoch, f"{line.loss:.3f}", *shares, mark))
    reporter.table("", ("epoch", "loss", "accuracy", "val loss", "val accuracy", ""), rows)
    took = duration(sum(line.seconds for line in result.epochs))
    accuracy = "" if best.val_accuracy is None else f", val accuracy {percent(best.val_accuracy)}"
    reporter.result(f"{counted(len(result.epochs), 'epoch')} in {took}; kept: epoch {best.epoch}{accuracy}")
    reporter.result(f"split: {one_line(result.split.how)}")
    test: dict[str, Any] | None = None
    if (found := result.test) is None:
        reporter.result("not tested: no test images")
    else:
        low, high = wilson_interval(round(found.accuracy * found.images), found.images)
        test = dataclasses.asdict(found) | {"accuracy_low": low, "accuracy_high": high}
        reporter.result(
            f"test accuracy {percent(found.accuracy)} on {counted(found.images, 'image')} not used in training "
            f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
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
