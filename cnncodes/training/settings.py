"""Every number of one training, as a record: what a recipe says and a run keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cnncodes.core.errors import OptionError
from cnncodes.core.records import Meta, check_fields

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["constant", "plateau", "step", "cosine", "one-cycle"]
Initialisation = Literal["kaiming", "paper"]
Share = Annotated[float, Meta(ge=0, le=0.99)]


@dataclass(frozen=True)
class NetworkSettings:
    """How the network is built while it learns; what is saved afterwards is always the plain network.

    Parameters
    ----------
    batch_norm : bool, default False
        Batch normalisation (Ioffe and Szegedy 2015) after every learning convolution and hidden fully connected
        stage, folded exactly into their weights at the end.
    rank : int, default 0
        Learn fully connected stages as products of two matrices of this rank, which the saved weights keep;
        0: as they are.
    activation : {"relu", "tanh"}, default "relu"
        "tanh" repeats the comparison of Krizhevsky et al. 2012, figure 1.
    """

    batch_norm: bool = False
    rank: Annotated[int, Meta(ge=0, le=65_536)] = 0
    activation: Literal["relu", "tanh"] = "relu"

    def __post_init__(self) -> None:
        check_fields(self, "network")


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

    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 32
    optimizer: Optimizer = "sgd"
    learning_rate: Annotated[float, Meta(ge=0, le=1e6)] | Literal["auto"] = 0.01
    momentum: Annotated[float, Meta(ge=0, le=0.9999)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.0005
    middle_rate: Annotated[float, Meta(ge=0, le=100)] = 0.1
    early_rate: Annotated[float, Meta(ge=0, le=100)] = 0.1
    schedule: Schedule = "cosine"
    warmup_epochs: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    patience: Annotated[int, Meta(ge=1, le=10_000)] = 3
    stop_after: Annotated[int, Meta(ge=0, le=10_000)] = 0
    label_smoothing: Share = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    dropout: Share = 0.5
    freeze: str = "none"
    initialisation: Initialisation = "kaiming"
    random_crop: bool = True
    mirror: bool = True
    crop_area: Annotated[float, Meta(ge=0.01, le=1)] = 1.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.0
    mixup: Annotated[float, Meta(ge=0, le=10)] = 0.0
    pca_noise: Annotated[float, Meta(ge=0, le=10)] = 0.0
    input_sizes: Annotated[str, Meta(pattern="^( *[0-9]+ *(, *[0-9]+ *)*)?$", examples=["128,160"])] = ""
    cached_views: Annotated[int, Meta(ge=-1, le=1000)] = -1
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    network: NetworkSettings = field(default_factory=NetworkSettings)

    def __post_init__(self) -> None:
        check_fields(self, "train")

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
        """Learning rate at ``position`` in 0..1 of all steps; ``divisor`` is what plateaus have divided the rate by so far."""
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
