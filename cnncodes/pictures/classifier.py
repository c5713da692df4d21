"""What is looked at: a network with its classifier, an image as that network sees it, and the class that is asked about.

Every picture of a network starts here. Nothing in this room changes the network: its parameters are those of the
weights (read-only), it stays in evaluation mode, and gradients are asked for pixels alone.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnncodes.codes.compute import Device, choose_device
from cnncodes.core import errors
from cnncodes.core.errors import (
    ImageError,
    ModelError,
    OptionError,
    WeightsMismatchError,
    WeightsMissingError,
)
from cnncodes.core.files import model_file
from cnncodes.core.records import to_value
from cnncodes.evaluation.whole import scores_of
from cnncodes.heads import LinearModel
from cnncodes.heads.linear_model import AnyModel
from cnncodes.images import crops_of, normalise
from cnncodes.images.decode import decode
from cnncodes.images.preprocess import NEARLY_ALL, share_seen
from cnncodes.networks import TorchNetwork
from cnncodes.pictures.drawing import short
from cnncodes.weights import Weights, build_network
from cnncodes.weights.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.images.decode import Source
    from cnncodes.pictures.drawing import Array, Bytes

LITTLE_SEEN = (
    0.4  # about half: below it the crop may miss the thing (a photograph of 16:9 gives 0.43 to 0.48)
)
#: Of a class that a person names: a network that gives it less than the first does not see it at all, the second is little.
UNSEEN, LITTLE = 0.01, 0.1
#: Of the predicted class, on the way from chance to certainty. How far apart an SVM's scores lie depends on C.
GUESS, UNSURE = 0.1, 0.5
FEW = 5  # so many classes are named in the note: one of them is the answer whatever is in the image
SCORE_MEANS = "the highest is the answer"  # of an SVM
LONGEST_FILE = 40  # characters of a file's name in a title


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network, and the classifier that is asked about it."""

    name: str  # the weights' name, or the model's file
    weights: Weights
    device: Device
    head: LinearModel | None = None  # on codes of one stage; None for the network's own last stage

    @cached_property
    def network(self) -> TorchNetwork:
        """The network on its device, in evaluation mode, without gradients of its parameters."""
        return build_network(self.weights).to(self.device.torch_name)

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.weights.preprocessing

    @property
    def stage(self) -> str:
        """The stage that the classifier reads: a head's, or the network's last."""
        return self.head.stage if self.head else self.weights.architecture.stage_names[-1]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores; raises ModelError if the network ends before a classifier."""
        if self.head is not None:
            return self.head.classes
        count = self.weights.architecture.classes
        if count is None:
            raise ModelError(
                f"network '{self.weights.network}' of weights '{self.name}' ends before a classifier.",
                "Name a model with a head: --weights model.safetensors.",
            )
        return self.weights.class_names() or tuple(f"class {place}" for place in range(count))

    @property
    def has_classes(self) -> bool:
        """Whether there is a classifier."""
        return self.head is not None or self.weights.architecture.classes is not None

    @property
    def unit(self) -> str:
        """What :meth:`values` gives: "probability", or "score" of an SVM without probabilities."""
        return "probability" if self._temperature else "score"

    @property
    def _temperature(self) -> float | None:
        return self.head.head.scale if self.head else 1.0

    def scores(self, pixels: Tensor) -> Tensor:
        """Scores ``[batch, classes]`` of preprocessed pixels ``[batch, 3, height, width]``; gradients flow."""
        return self.classify(self.network.activations(pixels, [self.stage])[self.stage])

    def classify(self, codes: Tensor) -> Tensor:
        """Scores ``[batch, classes]`` of what the classifier's stage gives, ``[batch, ...]``; gradients flow."""
        return codes if self.head is None else scores_of(self.head, codes)

    def values(self, scores: Tensor) -> Tensor:
        """What is shown of scores ``[batch, classes, ...]``: probabilities, or the scores where there are none."""
        return scores if self._temperature is None else (scores / self._temperature).softmax(1)

    def answer(self, pixels: Tensor) -> Array:
        """Values ``[classes]`` of one image's pixels ``[1, 3, side, side]``, without gradients."""
        with torch.inference_mode():
            return np.asarray(self.values(self.scores(pixels))[0].cpu().numpy())

    def class_place(self, name: str | int) -> int:
        """Place of a class by its name, in any case, or by its number; raises OptionError that names the nearest."""
        text = str(name)
        if text.isdecimal() and text.isascii() and text not in self.classes:
            if int(text) < len(self.classes):
                return int(text)
            raise OptionError(
                f"class {text} is not there: '{self.name}' has {len(self.classes):,} classes.",
                f"Use a number from 0 to {len(self.classes) - 1}, or a name.",
            )
        folded = [entry.casefold() for entry in self.classes]
        if text.casefold() in folded:
            return folded.index(text.casefold())
        names = sorted(self.classes)
        if len(names) > 20:
            inside = [entry for entry in self.classes if text.casefold() in entry.casefold()]
            names = inside[:8] or difflib.get_close_matches(text, self.classes, n=8, cutoff=0.5)
        raise OptionError(
            f"class '{text}' is not one of the {len(self.classes):,} of '{self.name}'.",
            errors.nearest(text, names) if names else "Use a class's number, from 0.",
        )


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image as a network sees it."""

    name: str  # the file's, for titles
    rgb: Bytes  # [side, side, 3], the centre crop, for eyes
    pixels: Tensor  # float32 [1, 3, side, side], the same, preprocessed, on the classifier's device
    seen: float = 1.0  # share of the photograph's area that the crop covers


def load_classifier(model: AnyModel, *, network: str | None = None, device: str = "auto") -> Classifier:
    """A network by the name of its weights, or by a model that reads its codes.

    Parameters
    ----------
    model : name, path, LinearModel or Weights
        ``starter``, ``imagenet``, ``random:SEED``, a weights file, or a model file of ``fit-linear`` or ``run`` (or the
        folder of one), whose linear classifier is asked then.
    network : str, optional
        Where the weights do not say it.
    device : str, default "auto"

    Raises
    ------
    ModelError, WeightsError, WeightsMissingError
        If it is not there, or cannot be read.
    """
    from cnncodes.evaluation.scores import model_weights
    from cnncodes.heads.linear_model import is_model
    from cnncodes.weights import load_weights, read_tensors

    place = choose_device(device)
    if isinstance(model, str | os.PathLike):
        path = model_file(model)
        if path.is_dir():
            remedy = "Name a run's folder, weights, or a model's file."
            raise ModelError(f"'{path}' is a folder without a model.", remedy)
        if path.suffix == ".safetensors" and path.is_file() and is_model(read_tensors(path)[1]):
            model = LinearModel.load(path)
    if isinstance(model, LinearModel):
        origin, named = model.origin, model.settings.weights
        name = origin.name if isinstance(origin, Path) else named
        try:
            return Classifier(name, model_weights(model), place, model)
        except (WeightsMissingError, WeightsMismatchError) as error:
            raise type(error)(error.problem, f"Put '{named}' into the folder of '{origin}'.") from error
    weights = load_weights(model, network=network)
    return Classifier(weights.name, weights, place)


def see_image(image: Source, classifier: Classifier) -> SeenImage:
    """An image as the classifier's network sees it: decoded, resized, the centre crop. Raises ImageError that names the file."""
    record = classifier.preprocessing
    name, size, crop = read_crop(image, record)
    rgb = crop if record.channels == "RGB" else np.ascontiguousarray(crop[:, :, ::-1])
    pixels = torch.from_numpy(normalise(crop[None], record)).to(classifier.device.torch_name)
    return SeenImage(name, rgb, pixels, share_seen(size, record))


def read_crop(image: Source, record: Preprocessing) -> tuple[str, tuple[int, int], Bytes]:
    """Name and size of an image and its centre crop ``[side, side, 3]``; raises ImageError that names the file."""
    refuse_folder(image)
    name = Path(image).name if isinstance(image, str | os.PathLike) else "the image"
    try:
        picture = decode(image, record)
        return name, picture.size, np.ascontiguousarray(crops_of(picture, record)[0])
    except ImageError as error:
        raise ImageError(f"'{name}' cannot be read: {error.problem.rstrip('.')}.", error.remedy) from error


def crop_words(seen: float) -> str:
    """What the network is given, as pictures and commands call it; ``seen`` is the share of the photograph's area."""
    whole = seen >= NEARLY_ALL
    return (
        "the image, as the network sees it" if whole else f"the centre crop, {_per_cent(seen)} of the photo"
    )


def crop_caution(seen: float) -> str | None:
    """A warning where the crop leaves out so much that the thing itself may be missing; else None."""
    return f"the network sees only {_per_cent(seen)} of the photo, its centre" if seen < LITTLE_SEEN else None


def _per_cent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.01 else 1}f} %"


def refuse_folder(image: Source) -> None:
    """Raise ImageError if a person named a folder where one image is looked at."""
    if isinstance(image, str | os.PathLike) and Path(image).is_dir():
        raise ImageError(f"'{image}' is a folder, and one image is looked at.", "Name an image in it.")


def to_rgb(pixels: Tensor, preprocessing: Preprocessing) -> Bytes:
    """The inverse of :func:`cnncodes.images.normalise`: pixels ``[batch, 3, height, width]`` as RGB bytes ``[..., height, width, 3]``."""
    mean = pixels.new_tensor(preprocessing.mean)[:, None, None]
    std = pixels.new_tensor(preprocessing.std)[:, None, None]
    values = (pixels.detach() * std + mean) * preprocessing.scale
    rgb = values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(rgb if preprocessing.channels == "RGB" else rgb[..., ::-1])


@dataclass(frozen=True, eq=False)
class Question:
    """A class, asked about in one image."""

    model: str  # name of the network or model
    image: str  # and of the image
    rgb: Bytes  # [side, side, 3], as the network sees it
    place: int  # of the class among the scores; two classes can have one name
    name: str
    predicted: str  # the class with the largest score
    predicted_place: int
    value: float  # of the class that is asked about, in `unit`
    predicted_value: float
    unit: str  # "probability", or "score" of an SVM
    seen: float = 1.0  # share of the photograph's area that the network sees
    known: tuple[str, ...] = ()  # all classes
    named: bool = False  # by a person, not predicted

    @property
    def title(self) -> str:
        """``'ants': probability 83 %, the predicted class``."""
        rank = "the predicted class"
        if self.place != self.predicted_place:
            rank = f"predicted is '{short(self.predicted)}', {as_text(self.predicted_value, self.unit)}"
        value = as_text(self.value, self.unit)
        if self.unit != "probability":
            value = f"SVM {value} ({SCORE_MEANS})"
        return f"'{short(self.name)}': {value}, {rank}"

    @property
    def note(self) -> str:
        """What stands below the title of a picture."""
        return note_of(self.image, self.model, self.known, self.cautions, self.named)

    @property
    def cautions(self) -> list[str]:
        """The doubt, and a warning where little of the photograph is seen."""
        return [text for text in (self.doubt, crop_caution(self.seen)) if text]

    @property
    def doubt(self) -> str | None:
        """Why not much may be read out of a picture about this class; None where the network is sure enough, and of SVMs."""
        if self.place != self.predicted_place:
            return little_of(self.name, self.value, self.unit)
        if self.unit != "probability":
            return None
        chance = 1 / len(self.known) if len(self.known) > 1 else 0.0
        sure = (self.value - chance) / (1 - chance)
        if sure < GUESS:
            return "the network only guesses, so the picture explains a guess"
        return "the network is unsure" if sure < UNSURE else None

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it."""
        values = {"class": self.name, self.unit: self.value, f"predicted_{self.unit}": self.predicted_value}
        named = ("model", "image", "place", "predicted", "predicted_place", "doubt", "seen")
        return {**to_value(self, *named), **values}


def ask(classifier: Classifier, image: SeenImage, class_name: str | int | None = None) -> Question:
    """The question that a picture answers: about the class of that name or number, else the predicted one.

    Raises OptionError for a class that is not there, ModelError for a network without a classifier.
    """
    names = classifier.classes
    values = classifier.answer(image.pixels)
    best = int(values.argmax())
    place = best if class_name is None else classifier.class_place(class_name)
    return Question(
        classifier.name, image.name, image.rgb, place, names[place], names[best], best,
        float(values[place]), float(values[best]), classifier.unit, image.seen, tuple(names),
        class_name is not None,
    )  # fmt: skip


def little_of(name: str, value: float, unit: str, most: str = "only") -> str | None:
    """The doubt about a class that a person names and the network hardly sees, if anywhere; else None, and of SVMs."""
    if unit != "probability" or value >= LITTLE:
        return None
    found = f"gives '{short(name)}' {most} {number(value, unit)}"
    if value < UNSEEN:
        found = f"sees no '{short(name)}' here"
    return f"the network {found}, so the picture shows the little that speaks for it"


def knows_only(known: Sequence[str]) -> str | None:
    """``it knows only ants and bees``; None for more than a few classes."""
    if not 1 < len(known) <= FEW:
        return None
    names = [short(name, 16) for name in known]
    return f"it knows only {', '.join(names[:-1])} and {names[-1]}"


def note_of(
    image: str, model: str, known: Sequence[str] = (), cautions: Sequence[str] = (), named: bool = False
) -> str:
    """``a.jpg, starter: one of the 1,000 classes that it knows. Beware: ...``, below a picture's title."""
    where = f"{short(image, LONGEST_FILE)}, {short(model, LONGEST_FILE)}"
    if few := knows_only(known):
        where += f": {few}"
    elif len(known) > FEW:
        where += f": one of the {len(known):,} classes that it knows"
        where += "" if named else "; what the photo shows may not be among them"
    return f"{where}. Beware: {'; '.join(cautions)}" if cautions else where


def as_text(value: float, unit: str) -> str:
    """``probability 83 %`` or ``score -0.52``."""
    return f"{unit} {number(value, unit)}"


def number(value: float, unit: str) -> str:
    """``83 %`` of a probability, ``-0.52`` of a score."""
    if unit != "probability":
        return f"{round(value, 2) + 0.0:.{2 if abs(value) < 0.995 else 1}f}"
    if 0 < value < 0.001:
        return "under 0.1 %"
    return f"{100 * value:.{0 if value >= 0.1 else 1}f} %"
