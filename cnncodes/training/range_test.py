"""A learning rate by the range test of Smith 2017, 'Cyclical learning rates', section 3.3.

The rate rises step by step from far too small to far too large. Suggested is the rate of the steepest fall of the loss, or a
tenth of the rate where the loss diverges if that is smaller. Both are rules of thumb: the first is the usual reading of
Smith's curve, the tenth allows for the many steps that a test does not take.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.core.errors import CnnCodesError, OptionError
from cnncodes.core.outputs import write_whole
from cnncodes.core.records import read_record, to_json
from cnncodes.training.callbacks import Callback, guessing_in
from cnncodes.training.folder import RANGE_TEST, RECORD, BadLossError, keep

if TYPE_CHECKING:
    from cnncodes.training.loop import Training

LOWEST, HIGHEST = 1e-6, 1.0
MOST_STEPS, FEWEST_STEPS = 100, 40
EPOCHS = 2  # of a test at most, unless these are fewer than FEWEST_STEPS steps
BLOWN_UP = 4.0  # times the best loss
FALLEN = 0.01  # of the first loss: the least fall
SAFE = 10.0  # the rate of divergence is divided by it


@dataclass(frozen=True)
class RangeTest:
    """What a range test measured, and what it suggests; :func:`cnncodes.advice.facts.rate_found` says it."""

    rates: tuple[float, ...]  # of each step whose loss was a number
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]  # the losses by a Gaussian
    rate: float  # the suggestion, with two digits
    steepest: float | None  # where the loss falls fastest below that of guessing, or below the first
    # the first rate with nearly the least loss, if the loss only fell from a bad start to that of guessing
    level: float | None
    # the first rate after the least loss at which half of the fall is lost, or at which the loss is four times its best or
    # not a number; the highest rate if the loss did not diverge
    blow_up: float
    blew_up: bool

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> RangeTest | None:
        """The test in a run's folder, if there is one."""
        path = Path(folder) / RANGE_TEST
        return read_record(path, cls, OptionError) if path.exists() else None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a run's folder, and its rate into the run's settings, where a resumed run finds it."""
        folder = Path(folder)
        write_whole(folder / RANGE_TEST, to_json(self))
        if (folder / RECORD).exists():
            keep(folder, rate=self.rate)


def range_test(
    step: Callable[[float], float],
    low: float = LOWEST,
    high: float = HIGHEST,
    steps: int = MOST_STEPS,
    guessing: float = math.inf,
) -> RangeTest:
    """Take steps at exponentially rising rates until the loss is four times its best, or not a number.

    ``step(rate)`` takes one step and gives the loss before it. A fall down to ``guessing``, the loss of the best answer that is the
    same for all images, says nothing about the images. Raises CnnCodesError if the loss is not a number from the first steps on.
    """
    rates, losses = [], []
    running, best, blew_up = 0.0, math.inf, False
    memory = 1 - 10 / max(steps, 20)
    for count, rate in enumerate(np.geomspace(low, high, steps).tolist(), start=1):
        loss = step(rate)
        if not math.isfinite(loss):
            blew_up = True
            break
        rates.append(rate)
        losses.append(loss)
        running = memory * running + (1 - memory) * loss
        mean = running / (1 - memory**count)
        best = min(best, mean)
        if mean > BLOWN_UP * best:
            blew_up = True
            break
    if len(rates) < 3:
        raise CnnCodesError(
            f"the range test has no result: the loss is not a number at a rate of {rate:g}.",
            "Look at the images and the preprocessing, or start from other weights.",
        )
    return _judged(rates, losses, rate, blew_up, max(1.0, steps / 25), guessing)


def _judged(
    rates: list[float], losses: list[float], last: float, blew_up: bool, width: float, guessing: float
) -> RangeTest:
    """The suggestion from a curve; ``width`` is the standard deviation, in steps, of the Gaussian that smooths it."""
    values = np.minimum(np.array(losses), BLOWN_UP * max(losses[0], 1e-12))
    places = np.arange(len(values))
    kernel = np.exp(-0.5 * ((places[:, None] - places) / width) ** 2)
    smoothed = kernel @ values / kernel.sum(axis=1)
    # batches differ: what is within three standard errors of the smoothed loss is neither a fall nor a rise
    noise = 1.4826 * float(np.median(np.abs(values - smoothed))) / math.sqrt(2 * math.sqrt(math.pi) * width)
    start, least = float(smoothed[0]), int(smoothed.argmin())
    margin, lowest = max(FALLEN * start, 3 * noise), float(smoothed[least])
    reference = min(start, guessing)
    steepest = level = None
    if lowest < reference - margin:
        fall = reference - 0.1 * (reference - lowest)
        begin = int(np.flatnonzero(np.append(math.inf, smoothed[: least + 1]) >= fall)[-1])
        slope = np.gradient(smoothed, np.log(rates))
        steepest = rates[max(begin - 1, 0) + int(slope[max(begin - 1, 0) : least + 1].argmin())]
    elif lowest < start - margin:
        level = rates[int(np.flatnonzero(smoothed <= lowest + 0.1 * (start - lowest))[0])]
    rise = lowest + max(margin, 0.5 * (reference - lowest))
    above = np.flatnonzero(smoothed[least:] > rise)
    if len(above):
        last, blew_up = rates[least + int(above[0])], True
    rate = min(value for value in (steepest, level, last / SAFE) if value is not None)
    return RangeTest(
        tuple(rates), tuple(losses), tuple(smoothed.tolist()), float(f"{rate:.2g}"),
        steepest, level, last, blew_up,
    )  # fmt: skip


def find_rate(training: Training) -> RangeTest:
    """A range test with the training's own batches, after which the training is restored bit for bit.

    All processes that train together take part and find the same. Raises InterruptedTrainingError after SIGTERM or
    SIGINT; a resumed training measures again.
    """
    saved, settings, inputs = training.snapshot(), training.settings, training.inputs
    epochs = map(inputs.draws, itertools.count())
    batches = (batch for draws in epochs for batch in inputs.to_learn(inputs.batches(draws), draws))
    training.learner.train()

    def step(rate: float) -> float:
        training.settings = dataclasses.replace(
            settings, learning_rate=rate, schedule="constant", warmup_epochs=0.0
        )
        state = training.state
        state.loss_sum, state.seen = 0.0, 0
        for _ in range(2 * training.steps_per_epoch):  # a batch may have no image that can be read
            training.step(next(batches))
            try:
                training.look()
            except BadLossError:
                return math.nan
            if training.stopping:  # in all processes at the same step
                raise training.interrupted()
            if state.seen:
                return state.loss_sum / state.seen
        raise training.nothing_readable()

    steps = min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * training.steps_per_epoch))
    try:
        return range_test(step, steps=steps, guessing=guessing_in(inputs))
    finally:
        batches.close()
        training.settings = settings
        training.optimizer.zero_grad(set_to_none=True)
        training.restore(saved)


class MeasureRate(Callback):
    """If the settings' rate is "auto", measures it before the first step and writes it into the folder."""

    def on_epoch_begin(self, training: Training) -> None:
        if training.settings.learning_rate != "auto":
            return
        test = find_rate(training)
        training.settings = dataclasses.replace(training.settings, learning_rate=test.rate)
        if training.processes.leads:
            test.save(training.folder)
            training.call("on_rate_found", test)
