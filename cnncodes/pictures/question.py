"""Which class is asked about in an image: the predicted one, or one that a person names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnncodes.core.records import to_value
from cnncodes.pictures.classifier import Classifier, SeenImage, crop_caution
from cnncodes.pictures.drawing import Bytes, plain

#: Of a class that a person names: a network that gives it less than the first does not see it at all, the second is little.
UNSEEN, LITTLE = 0.01, 0.1
#: Of the predicted class, on the way from chance to certainty. How far apart an SVM's scores lie depends on C.
GUESS, UNSURE = 0.1, 0.5
FEW = 5  # so many classes are named in the note: one of them is the answer whatever is in the image
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
    named: bool = False  # by a person, not predicted

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
        if sure >= UNSURE:
            return None
        if sure < GUESS:
            return "the network only guesses, so the picture explains a guess"
        return "the network is unsure"

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
    found = (
        f"sees no '{short(name)}' here"
        if value < UNSEEN
        else f"gives '{short(name)}' {most} {number(value, unit)}"
    )
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


def short(name: str, length: int = 30) -> str:
    """A name on one line, cut in the middle where it would not fit: its beginning and end (a suffix) tell it apart."""
    name, end = plain(name), length // 3
    return name if len(name) <= length else f"{name[: length - end - 3]}...{name[-end:]}"
