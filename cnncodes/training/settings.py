"""Every number of one training, as a record: what a recipe says and a run keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cnncodes.core.errors import OptionError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "plateau", "step", "cosine", "one-cycle"]
Initialisation = Literal["kaiming", "paper"]


@dataclass(frozen=True)
class NetworkSettings:
    """How the network is built while it learns; what is saved afterwards is always the plain network.

    Parameters
    ----------
    batch_norm : bool, default False
        Batch normalisation (Ioffe and Szegedy 2015) after every learning convolution and hidden fully connected
        stage, folded exactly into their weights at the end.
    rank : int, default 0
        Learn fully connected stages as products of two matrices of this rank, multiplied out at the end;
        0: as they are.
    activation : {"relu", "tanh"}, default "relu"
        "tanh" repeats the comparison of Krizhevsky et al. 2012, figure 1.
    """

    batch_norm: bool = False
    rank: int = 0
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        _check(self, "network", {"activation": ("relu", "tanh")}, {"rank": (0, 65_536)})


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training, apart from the images and the weights it starts from.

    Parameters
    ----------
    epochs : int, default 10
    batch_size : int, default 32
        Images per step.
    optimizer : {"sgd", "adamw"}, default "sgd"
        SGD with momentum as Krizhevsky et al. 2012, section 5, but for the rate, which torch multiplies
        after the momentum; or decoupled weight decay (Loshchilov and Hutter 2019).
    learning_rate : float or "auto", default 0.01
        Of new layers, at its highest. "auto" measures one before the first step, see
        :func:`cnncodes.training.range_test.find_rate`.
    momentum : float, default 0.9
        Of SGD.
    weight_decay : float, default 0.0005
    middle_rate, early_rate : float, default 0.1
        Rates of the pretrained fully connected stages and of the convolutions, as parts of ``learning_rate``.
    schedule : {"constant", "plateau", "step", "cosine", "one-cycle"}, default "cosine"
        "plateau" divides by ten when the val loss has not fallen for ``patience`` epochs, three times at most
        (the paper's); "step" divides by ten after each third of the epochs.
    warmup_epochs : float, default 0
        The rate rises from zero over so many epochs first.
    patience : int, default 3
        Epochs without a better val loss before "plateau" acts.
    stop_after : int, default 0
        Stop when the val loss has not fallen for so many epochs; 0: never.
    label_smoothing : float, default 0
    class_weight : {"none", "balanced"}, default "none"
    clip_norm : float, default 0
        Longest gradient; 0: any.
    dropout : float, default 0.5
        After each hidden fully connected stage.
    freeze : str, default "none"
        Stages that do not learn: names and ranges.
    initialisation : {"kaiming", "paper"}, default "kaiming"
        Of new layers. "paper": N(0, 0.01), biases 1 in conv2, conv4, conv5 and the hidden fully connected
        stages, else 0 (section 5).
    random_crop, mirror : bool, default True
        Crops at random places of the resized square, and every second one mirrored (section 4.1).
    crop_area : float, default 1
        Less than 1: crops of random size, down to this part of the square's area, and of sides 3:4 to 4:3,
        resized (Szegedy et al. 2015, section 6).
    jitter : float, default 0
        Brightness, contrast and saturation are each multiplied by a factor from 1 - ``jitter`` to 1 + ``jitter``.
    mixup : float, default 0
        Parameter of the beta distribution by which pairs of images are mixed (Zhang et al. 2018); 0: none. Pairs are
        neighbours in a process's share of the batch, so they depend on the number of processes.
    pca_noise : float, default 0
        Standard deviation of the RGB noise along the principal axes of the training pixels; the paper's is 0.1.
    precision : {"float32", "bfloat16"}, default "float32"
        Of forward and backward; weights and optimizer stay float32.
    input_sizes : str, default ""
        Progressive input: sides in pixels such as "128,160", each for an equal part of the epochs; empty: the
        crop of the preprocessing throughout.
    cached_views : int, default -1
        Augmented views of each image whose activations at the frozen boundary are computed once and kept;
        0: computed anew each epoch; -1: 4 where only fully connected stages learn, else 0.
    seed : int, default 0
    network : NetworkSettings
    """

    epochs: int = 10
    batch_size: int = 32
    optimizer: Optimizer = "sgd"
    learning_rate: float | Literal["auto"] = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    middle_rate: float = 0.1
    early_rate: float = 0.1
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.0
    patience: int = 3
    stop_after: int = 0
    label_smoothing: float = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    clip_norm: float = 0.0
    dropout: float = 0.5
    freeze: str = "none"
    initialisation: Initialisation = "kaiming"
    random_crop: bool = True
    mirror: bool = True
    crop_area: float = 1.0
    jitter: float = 0.0
    mixup: float = 0.0
    pca_noise: float = 0.0
    input_sizes: str = ""
    cached_views: int = -1
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, str) and self.learning_rate != "auto":
            raise OptionError(
                f"train.learning_rate = {self.learning_rate!r} is not known.",
                'Use a number such as 0.01, or "auto".',
            )
        measured = {} if self.learning_rate == "auto" else {"learning_rate": _RATE_RANGE}
        _check(self, "train", _CHOICES, measured | _RANGES)
        if not all(
            size.strip().isascii() and size.strip().isdigit() for size in self.input_sizes.split(",") if size
        ):
            raise OptionError(
                f"train.input_sizes = {self.input_sizes!r} is not a list of sides.",
                'Write such as "128,160".',
            )

    @property
    def highest_rate(self) -> float:
        """``learning_rate`` as a number; raises OptionError while it is "auto" and not yet measured."""
        if isinstance(self.learning_rate, str):
            raise OptionError(
                'train.learning_rate is "auto", and no rate has been measured yet.',
                "Start the training, which measures it first, or give a number such as 0.01.",
            )
        return self.learning_rate

    def input_size_at(self, epoch: int) -> int | None:
        """Side of the input in an epoch (from 0), or None for that of the preprocessing."""
        sizes = [int(size) for size in self.input_sizes.split(",") if size]
        return sizes[min(epoch * len(sizes) // self.epochs, len(sizes) - 1)] if sizes else None

    def rate_at(self, position: float, divisor: float = 1.0) -> float:
        """Learning rate at ``position`` in 0..1 of the training.

        Parameters
        ----------
        position : float
            Steps done as a part of all steps.
        divisor : float, default 1
            What plateaus have divided the rate by so far.
        """
        warmup = self.warmup_epochs / self.epochs
        if position < warmup:
            return self.highest_rate * position / warmup
        after = (position - warmup) / max(1 - warmup, 1e-9)
        shape: dict[str, float] = {
            "constant": 1.0,
            "plateau": 1.0,
            "step": 10.0 ** -min(int(3 * after), 2),
            "cosine": 0.5 * (1 + math.cos(math.pi * after)),
            # Smith 2018: up from 1/25 for a third, then down to nothing
            "one-cycle": 0.04 + 0.96 * 3 * after
            if after < 1 / 3
            else 0.5 * (1 + math.cos(math.pi * (after - 1 / 3) * 1.5)),
        }
        return self.highest_rate * shape[self.schedule] / divisor


def _check(
    record: object,
    section: str,
    choices: dict[str, tuple[Any, ...]],
    ranges: dict[str, tuple[float, float]],
) -> None:
    """Raise OptionError for the first field whose value is not allowed."""
    for name, allowed in choices.items():
        if getattr(record, name) not in allowed:
            raise OptionError(
                f"{section}.{name} = {getattr(record, name)!r} is not known.",
                f"Use one of {', '.join(allowed)}.",
            )
    for name, (low, high) in ranges.items():
        value = getattr(record, name)
        if not low <= value <= high:
            raise OptionError(
                f"{section}.{name} = {value} is out of range.", f"Use a value from {low:g} to {high:g}."
            )


_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "initialisation": get_args(Initialisation),
    "class_weight": ("none", "balanced"),
    "precision": ("float32", "bfloat16"),
}
_RATE_RANGE = (0.0, 1e6)
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 10),
    "middle_rate": (0, 100),
    "early_rate": (0, 100),
    "warmup_epochs": (0, 1000),
    "patience": (1, 10_000),
    "stop_after": (0, 10_000),
    "label_smoothing": (0, 0.99),
    "clip_norm": (0, 1e9),
    "dropout": (0, 0.99),
    "crop_area": (0.01, 1),
    "jitter": (0, 1),
    "mixup": (0, 10),
    "pca_noise": (0, 10),
    "cached_views": (-1, 1000),
    "seed": (0, 2**63 - 1),
}
