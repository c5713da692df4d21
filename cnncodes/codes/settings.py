"""What a codes file was made with: the record that resuming compares and that `--like` repeats."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from cnncodes.core.errors import OptionError
from cnncodes.core.files import parse_json, reading
from cnncodes.images.preprocess import check_crops, kept_crops
from cnncodes.networks import Network, Shape, channel_axis, get_network
from cnncodes.weights.preprocessing import Preprocessing

Precision = Literal["float32", "bfloat16", "float16"]
Dtype = Literal["float32", "float16"]
Pool = Literal["none", "mean", "max", "cls"]
MOST_NUMBERS = 20_000  # of a layer that a linear head reads: a larger one is pooled


@dataclass(frozen=True)
class ExtractionSettings:
    """Everything that decides the numbers in a codes file, apart from the images."""

    network: str
    stages: tuple[str, ...]  # canonical names, such as ("pool5", "fc7")
    weights: str  # their name: imagenet, random:0, a file
    weights_sha256: str  # fingerprint of their tensors
    preprocessing: Preprocessing
    crops: str = "center"  # center, mirror, ten; mirror-mean and ten-mean store the mean of the crops' codes
    precision: Precision = "float32"  # of the network's arithmetic
    dtype: Dtype = "float32"  # of the stored codes
    batch_size: int = 64  # equal bits need equal batches
    classes: int | None = None  # logits of the weights' last stage; None: the network's own
    pool: Pool = "none"  # maps and tokens whole, or for each channel its mean, largest or first token

    def __post_init__(self) -> None:
        if not self.stages:
            raise OptionError("no layer is asked for.", "Name at least one, such as --layers fc7.")
        check_crops(self.crops)
        for name, kind in (("precision", Precision), ("dtype", Dtype), ("pool", Pool)):
            value, allowed = getattr(self, name), get_args(kind)
            if value not in allowed:
                raise OptionError(f"{name} '{value}' is not known.", f"Use one of {', '.join(allowed)}.")
        record = self.preprocessing
        if self.crops.startswith("ten") and record.fit == "pad" and record.crop == record.resize:
            raise OptionError(
                "ten crops are cut from a larger picture, and a padded one fits into a single crop.",
                "Leave out --fit pad, or use --crops center or mirror.",
            )
        if not 1 <= self.batch_size <= 4096:
            raise OptionError(f"a batch of {self.batch_size} images is not possible.", "Use 1 to 4096.")

    @property
    def kept_crops(self) -> int:
        """Of each image: 1, 2 or 10 rows of codes."""
        return kept_crops(self.crops)

    @property
    def architecture(self) -> Network:
        """The network as a record, with the number of classes that the weights have."""
        return get_network(self.network, self.classes)

    def stage_shapes(self) -> dict[str, Shape]:
        """Of each stored stage for one crop; raises InputSizeError if the crop does not fit the network."""
        shapes = self.architecture.output_shapes(self.preprocessing.crop)
        found = {stage: shapes[stage.partition(":")[0]] for stage in self.stages}
        return {stage: self.pooled(shape) for stage, shape in found.items()}

    def pooled(self, shape: Shape) -> Shape:
        """Shape of what is kept of a value."""
        return shape if self.pool == "none" or len(shape) == 1 else (shape[channel_axis(shape)],)

    def relu(self, name: str) -> bool:
        """Whether stored values went through a ReLU; see :meth:`Network.is_rectified`."""
        return self.architecture.is_rectified(name)

    def differences(self, other: ExtractionSettings) -> list[str]:
        """One line for each entry that differs: ``layers: fc7 in the file, fc6,fc7 asked``.

        The name of the weights does not count where their fingerprint is the same.
        """
        changed = {
            f"preprocessing {name}": values
            for name, values in _differing(self.preprocessing, other.preprocessing).items()
        }
        changed |= _differing(self, other)
        changed.pop("preprocessing", None)
        if "weights_sha256" not in changed:
            changed.pop("weights", None)
        elif "weights" in changed:  # named once is enough
            del changed["weights_sha256"]
        known = {"stages": "layers", "weights_sha256": "sha256 of the weights"}
        return [
            f"{known.get(name, name)}: {_short(mine)} in the file, {_short(theirs)} asked"
            for name, (mine, theirs) in changed.items()
        ]

    def to_json(self) -> str:
        """JSON object with one entry per field; preprocessing as an object of its own."""
        return json.dumps(asdict(self))

    @classmethod
    @reading("the extraction settings", OptionError)
    def from_json(cls, text: str) -> ExtractionSettings:
        """Inverse of :meth:`to_json`; raises OptionError for anything else."""
        values = parse_json(text)
        values["preprocessing"] = Preprocessing.from_json(json.dumps(values["preprocessing"]))
        values["stages"] = tuple(values["stages"])
        return cls(**values)


def default_pool(network: Network, stages: tuple[str, ...], crop: int) -> Pool:
    """ "mean" for a library's network of which a layer has more numbers than a linear head should read, else "none"."""
    if network.stages:
        return "none"
    shapes = network.output_shapes(crop)
    return "mean" if any(math.prod(shapes[stage]) > MOST_NUMBERS for stage in stages) else "none"


def default_batch_size(images: int) -> int:
    """64, and less for small sets, so that two cores are busy to the end: the same bits on every machine of a kind."""
    return 64 if images >= 1024 else 32 if images >= 256 else 16


def _differing(mine: object, theirs: object) -> dict[str, tuple[object, object]]:
    """Both values of each entry in which two records of a class differ."""
    pairs = {field.name: (getattr(mine, field.name), getattr(theirs, field.name)) for field in fields(mine)}  # type: ignore[arg-type]
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    text = str(value)
    return text[:12] + "..." if len(text) == 64 else text
