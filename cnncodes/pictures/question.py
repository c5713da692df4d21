"""Which class is asked about in an image: the predicted one, or one that a person names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncodes.core.records import to_value
from cnncodes.pictures.classifier import Classifier, SeenImage, crop_caution
from cnncodes.pictures.drawing import Bytes, plain

UNSEEN = 0.01  # of a class that a person names: a network that gives it less does not see it at all
#: Of the predicted class, on the way from chance to certainty. How far apart an SVM's scores lie depends on C.
GUESS, UNSURE = 0.1, 0.5
FEW = 5  # so many classes are named where the network is not sure: it may know none that fits
SCORE_MEANS = "the highest is the answer"  # of an SVM
LONGEST_FILE = 40  # characters of a file's name in a title


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

    @property
    def title(self) -> str:
        """``'ants': probability 83 %, the predicted class``."""
        if self.place == self.predicted_place:
            rank = "the predicted class"
        else:
            rank = f"predicted is '{short(self.predicted)}', {as_text(self.predicted_value, self.unit)}"
        value = as_text(self.value, self.unit)
        if self.unit != "probability":
            value = f"SVM {value} ({SCORE_MEANS})"
        return f"'{short(self.name)}': {value}, {rank}"

    @property
    def note(self) -> str:
        """What stands below the title of a picture: image and network, what it knows, why not much may be read out of it."""
        return note_of(self.image, self.model, len(self.known), self.cautions)

    @property
    def cautions(self) -> list[str]:
        """The doubt, and a warning where little of the photograph is seen."""
        return [text for text in (self.doubt, crop_caution(self.seen)) if text]

    @property
    def doubt(self) -> str | None:
        """Why not much may be read out of a picture about this class; None where the network is sure enough, and of SVMs."""
        if self.place != self.predicted_place:
            if self.unit != "probability" or self.value >= UNSEEN:
                return None
            return f"the network sees no '{short(self.name)}' here, so the picture shows the little that speaks for it"
        if self.unit != "probability":
            return None
        chance = 1 / len(self.known) if len(self.known) > 1 else 0.0
        sure = (self.value - chance) / (1 - chance)
        if sure >= UNSURE:
            return None
        few = ""
        if 1 < len(self.known) <= FEW:  # one of them is named whatever is in the image
            names = [short(name, 16) for name in self.known]
            few = f", and knows only {', '.join(names[:-1])} and {names[-1]}"
        if sure < GUESS:
            return f"the network only guesses{few}, so the picture explains a guess"
        return f"the network is unsure{few}"

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
    )  # fmt: skip


def note_of(image: str, model: str, known: int = 0, cautions: Sequence[str] = ()) -> str:
    """``a.jpg, starter: one of the 1,000 classes that it knows. Beware: ...``, below a picture's title."""
    where = f"{short(image, LONGEST_FILE)}, {short(model, LONGEST_FILE)}"
    if known > FEW:
        where += f": one of the {known:,} classes that it knows; what the photo shows may not be among them"
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


def short(name: str, length: int = 30) -> str:
    """A name on one line, cut in the middle where it would not fit: its beginning and end (a suffix) tell it apart."""
    name, end = plain(name), length // 3
    return name if len(name) <= length else f"{name[: length - end - 3]}...{name[-end:]}"
