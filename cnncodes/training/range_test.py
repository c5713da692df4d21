"""A learning rate by measuring: the range test of Smith 2017, 'Cyclical learning rates', section 3.3.

The rate rises step by step from far too small to far too large, and the loss is watched. The rate that is suggested is
that of the steepest fall, or a tenth of the one where the loss blows up, whichever is smaller. Both are rules of thumb:
the first is how Smith's curve is commonly read, the tenth leaves room for the many steps that a test does not take.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnncodes.core.errors import CnnCodesError, HeadError, OptionError
from cnncodes.core.outputs import write_whole
from cnncodes.core.records import read_record, to_json
from cnncodes.training.callbacks import Callback
from cnncodes.training.diagnosis import guessing_in
from cnncodes.training.folder import RANGE_TEST, keep_rate
from cnncodes.training.state import BadLossError

if TYPE_CHECKING:
    from cnncodes.training.inputs import Batch, Inputs
    from cnncodes.training.loop import Training

LOWEST, HIGHEST = 1e-6, 1.0
MOST_STEPS, FEWEST_STEPS = 100, 40
EPOCHS = 2  # that a test takes at most, unless these are fewer than FEWEST_STEPS steps
BLOWN_UP = 4.0  # times the best loss
FALLEN = 0.01  # of the loss at the start: less is no fall
SAFE = 10.0


@dataclass(frozen=True)
class RangeTest:
    """What a range test measured, and what it suggests.

    Parameters
    ----------
    rates, losses, smoothed : tuple of float
        Of each step whose loss was a number; ``smoothed`` is a running mean over about a tenth of the steps.
    rate : float
        The suggestion, with two digits.
    steepest : float or None
        Rate at which the loss falls fastest below what guessing gives (or below its start, if that is less); None if
        it never gets there.
    level : float or None
        Where it only fell from a bad start to what guessing gives: the first rate with nearly the least loss.
    blow_up : float
        The first rate after the least loss at which half of the fall is lost, or at which the loss is four times its
        best or not a number; the highest rate if that never happened.
    blew_up : bool
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    rate: float
    steepest: float | None
    level: float | None
    blow_up: float
    blew_up: bool

    def explain(self) -> str:
        """The suggestion and its reasons, as one sentence."""
        fall, taken = "shows no fall beyond its noise", "a tenth of that"
        if self.steepest is not None:
            fall = f"falls fastest at {self.steepest:.2g}"
        elif self.level is not None:
            fall = f"has fallen to that of guessing by {self.level:.2g}"
        if self.steepest is not None or self.level is not None:
            taken = "the former, or a tenth of the latter if that is less"
        end = f"blows up at {self.blow_up:.2g}" if self.blew_up else f"does not blow up to {self.blow_up:g}"
        return (
            f"learning rate {self.rate:g}, by a range test of {len(self.rates)} steps: the loss {fall} and {end}; "
            f"taken is {taken} (a rule of thumb)"
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> RangeTest | None:
        """The test that a run's folder keeps, if there is one."""
        path = Path(folder) / RANGE_TEST
        return read_record(path, cls, OptionError) if path.exists() else None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Keep it in a run's folder, and its rate as the run's setting: a resumed run takes it from there."""
        folder = Path(folder)
        write_whole(folder / RANGE_TEST, to_json(self))
        keep_rate(folder, self.rate)


def range_test(
    step: Callable[[float], float],
    low: float = LOWEST,
    high: float = HIGHEST,
    steps: int = MOST_STEPS,
    guessing: float = math.inf,
) -> RangeTest:
    """Take steps at exponentially rising rates until the loss is four times its best, or not a number.

    Parameters
    ----------
    step : callable(rate) -> loss
        Takes one step; the loss is that before it.
    low, high : float, default 1e-6, 1
    steps : int, default 100
    guessing : float, optional
        Loss of the best answer that is the same for all images. A network may start far above it, and a fall down to
        it teaches nothing of the images.

    Raises
    ------
    CnnCodesError
        If the loss is not a number from the first steps on.
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
            f"the range test has no result: the loss is not a number at a rate of {rate:g} already.",
            "Look at the images and the preprocessing, or start from other weights.",
        )
    last = rate if blew_up else rates[-1]
    return _judged(rates, losses, last, blew_up, max(1.0, steps / 25), guessing)


def _judged(
    rates: list[float], losses: list[float], last: float, blew_up: bool, width: float, guessing: float
) -> RangeTest:
    """The suggestion from a curve; ``width`` in steps is the deviation of the Gaussian that smooths it."""
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
    """A range test with the training's own batches; afterwards everything about it is as it was, bit for bit.

    What is restored: weights, normalisation statistics, optimizer, random numbers, place in the data. All processes
    that train together take part, and find the same.

    Raises
    ------
    InterruptedTrainingError
        After SIGTERM or SIGINT; the training then measures anew when it is resumed.
    """
    saved, settings = training.snapshot(), training.settings
    batches = _endless(training.inputs)
    training.learner.train()

    def step(rate: float) -> float:
        training.settings = dataclasses.replace(
            settings, learning_rate=rate, schedule="constant", warmup_epochs=0.0
        )
        state = training.state
        state.loss_sum, state.seen = 0.0, 0
        tried = 0
        while not state.seen:  # a batch may have no image that can be read
            tried += 1
            if tried > 2 * training.steps_per_epoch:
                raise HeadError(
                    "none of the images to learn from could be read.",
                    "Look at one: cnncodes predict MODEL IMAGE.",
                )
            training.step(next(batches))
            try:
                training.look()
            except BadLossError:
                return math.nan
            if training.stopping:  # in all processes at the same step
                raise training.interrupted()
        return state.loss_sum / state.seen

    steps = min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * training.steps_per_epoch))
    try:
        return range_test(step, steps=steps, guessing=guessing_in(training.inputs))
    finally:
        batches.close()
        training.settings = settings
        training.optimizer.zero_grad(set_to_none=True)
        training.restore(saved)


class MeasureRate(Callback):
    """Where the settings' rate is "auto", measures it before the first step and keeps it in the folder."""

    def on_epoch_begin(self, training: Training) -> None:
        """The test, if it was not done."""
        if training.settings.learning_rate != "auto":
            return
        test = find_rate(training)
        training.settings = dataclasses.replace(training.settings, learning_rate=test.rate)
        if training.processes.leads:
            test.save(training.folder)
            training.call("on_rate_found", test)


def _endless(inputs: Inputs) -> Generator[Batch, None, None]:
    """Batches, epoch after epoch."""
    for epoch in itertools.count():
        draws = inputs.draws(epoch)
        yield from inputs.to_learn(inputs.batches(draws), draws)
