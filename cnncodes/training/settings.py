"""Every number of one training, as a record: what a recipe says and a run keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cnncodes.core.errors import OptionError
from cnncodes.core.records import Meta, check_fields

Share = Annotated[float, Meta(ge=0, le=0.99)]


@dataclass(frozen=True)
class NetworkSettings:
    """How the network is built while it learns; what is saved afterwards is always the plain network."""

    # batch normalisation (Ioffe and Szegedy 2015) after every learning convolution and hidden fully connected
    # stage, folded exactly into their weights at the end
    batch_norm: bool = False
    # learn fully connected stages as products of two matrices of this rank, which the saved weights keep; 0: as they are
    rank: Annotated[int, Meta(ge=0, le=65_536)] = 0
    activation: Literal["relu", "tanh"] = "relu"  # "tanh": the comparison of Krizhevsky et al. 2012, figure 1

    def __post_init__(self) -> None:
        check_fields(self, "network")


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training, apart from the images and the weights it starts from."""

    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Meta(ge=1, le=65_536)] = 32  # images per step
    # SGD with momentum as Krizhevsky et al. 2012, section 5, but for the rate, which torch multiplies after the momentum; or
    # decoupled weight decay (Loshchilov and Hutter 2019)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    # of new layers, at its highest; "auto" measures one before the first step (cnncodes.training.range_test.find_rate)
    learning_rate: Annotated[float, Meta(ge=0, le=1e6)] | Literal["auto"] = 0.01
    momentum: Annotated[float, Meta(ge=0, le=0.9999)] = 0.9  # of SGD
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.0005
    # rates of the pretrained fully connected stages and of the convolutions, as parts of learning_rate
    middle_rate: Annotated[float, Meta(ge=0, le=100)] = 0.1
    early_rate: Annotated[float, Meta(ge=0, le=100)] = 0.1
    # "plateau" divides by ten when the val loss has not fallen for ``patience`` epochs, three times at most (the paper's);
    # "step" divides by ten after each third of the epochs
    schedule: Literal["constant", "plateau", "step", "cosine", "one-cycle"] = "cosine"
    warmup_epochs: Annotated[float, Meta(ge=0, le=1000)] = 0.0  # in which the rate rises from zero first
    # epochs without a better val loss before "plateau" acts, and before the training ends (0: never)
    patience: Annotated[int, Meta(ge=1, le=10_000)] = 3
    stop_after: Annotated[int, Meta(ge=0, le=10_000)] = 0
    label_smoothing: Share = 0.0
    class_weight: Literal["none", "balanced"] = "none"
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  # longest gradient; 0: any
    dropout: Share = 0.5  # after each hidden fully connected stage
    freeze: str = "none"  # stages that do not learn: names and ranges
    # of new layers; "paper": N(0, 0.01), biases 1 in conv2, conv4, conv5 and the hidden fully connected stages, else 0 (section 5)
    initialisation: Literal["kaiming", "paper"] = "kaiming"
    random_crop: bool = True  # crops at random places of the resized square (section 4.1)
    mirror: bool = True  # every second view
    # less than 1: crops of random size, down to this part of the square's area, and of sides 3:4 to 4:3, resized
    # (Szegedy et al. 2015, section 6)
    crop_area: Annotated[float, Meta(ge=0.01, le=1)] = 1.0
    # brightness, contrast and saturation are each multiplied by a factor from 1 - jitter to 1 + jitter
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.0
    # parameter of the beta distribution by which pairs of images are mixed (Zhang et al. 2018); 0: none. Pairs are neighbours
    # in a process's share of the batch, so they depend on the number of processes
    mixup: Annotated[float, Meta(ge=0, le=10)] = 0.0
    # standard deviation of the RGB noise along the principal axes of the training pixels; the paper's is 0.1
    pca_noise: Annotated[float, Meta(ge=0, le=10)] = 0.0
    # sides in pixels such as "128,160", each for an equal part of the epochs; empty: the crop of the preprocessing throughout
    input_sizes: Annotated[str, Meta(pattern="^( *[0-9]+ *(, *[0-9]+ *)*)?$", examples=["128,160"])] = ""
    # augmented views of each image whose activations at the frozen boundary are computed once and kept; 0: computed anew each
    # epoch; -1: 4 where only fully connected stages learn, else 0
    cached_views: Annotated[int, Meta(ge=-1, le=1000)] = -1
    precision: Literal["float32", "bfloat16"] = "float32"  # of forward and backward; weights stay float32
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
        shape = 1.0
        if self.schedule == "step":
            shape = 10.0 ** -min(int(3 * after), 2)
        elif self.schedule == "cosine":
            shape = 0.5 * (1 + math.cos(math.pi * after))
        elif self.schedule == "one-cycle":  # Smith 2018: up from 1/25 for a third, then down to nothing
            down = 0.5 * (1 + math.cos(math.pi * (after - 1 / 3) * 1.5))
            shape = 0.04 + 0.96 * 3 * after if after < 1 / 3 else down
        return self.highest_rate * shape / divisor
