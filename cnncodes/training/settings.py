"""Every number of one training, as a record: what a recipe says and a run keeps."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from cnncodes.errors import OptionError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "plateau", "step", "cosine", "one-cycle"]
Initialisation = Literal["kaiming", "paper"]


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
    learning_rate : float, default 0.01
        Of new layers, at its highest.
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
    pca_noise : float, default 0
        Standard deviation of the RGB noise along the principal axes of the training pixels; the paper's is 0.1.
    precision : {"float32", "bfloat16"}, default "float32"
        Of forward and backward; weights and optimizer stay float32.
    seed : int, default 0
    """

    epochs: int = 10
    batch_size: int = 32
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
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
    pca_noise: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(
                    f"train.{name} = {getattr(self, name)!r} is not known.",
                    f"Use one of {', '.join(allowed)}.",
                )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(
                    f"train.{name} = {value} is out of range.", f"Use a value from {low:g} to {high:g}."
                )

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrainingSettings:
        """Inverse of :meth:`to_json`; raises OptionError for anything else."""
        try:
            values = json.loads(text)
            unknown = set(values) - {field.name for field in fields(cls)}
            if unknown:
                raise TypeError(f"unknown entries {sorted(unknown)}")
            return cls(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(
                f"the training settings cannot be read: {error}.",
                "The file is damaged, or was written by a newer version of cnncodes.",
            ) from error

    def rate_at(self, position: float, divisor: float = 1.0) -> float:
        """Learning rate at ``position`` in 0..1 of the training.

        Parameters
        ----------
        position : float
            Steps done as a part of all steps.
        divisor : float, default 1
            What plateaus have divided the rate by so far.
        """
        import math

        warmup = self.warmup_epochs / self.epochs
        if position < warmup:
            return self.learning_rate * position / warmup
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
        return self.learning_rate * shape[self.schedule] / divisor


_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "initialisation": get_args(Initialisation),
    "class_weight": ("none", "balanced"),
    "precision": ("float32", "bfloat16"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "learning_rate": (0, 1e6),
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
    "pca_noise": (0, 10),
    "seed": (0, 2**63 - 1),
}
