"""Which class is asked about in an image: the predicted one, or one that a person names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cnncodes.pictures.subject import Bytes, Subject, View, crop_caution

UNSEEN = 0.01  # of a class that a person names: a network that gives it less does not see it at all
#: Of the predicted class, on the way from chance to certainty (of an SVM: from 0 to its margin, which is 1).
GUESS, UNSURE = 0.1, 0.5
FEW = 5  # so many classes are named where the network is not sure: it may know none that fits
SCORE_MEANS = "above 0 speaks for the class, about 1 is sure"  # of an SVM
LONGEST_FILE = 40  # characters of a file's name in a title


@dataclass(frozen=True, eq=False)
class Question:
    """A class, asked about in one image.

    Parameters
    ----------
    subject, image : str
        Names of the network (or model) and of the image.
    rgb : uint8 array [side, side, 3]
        The image as the network sees it, for eyes.
    place : int
        The class's place among the scores.
    name, predicted : str
        The class that is asked about, and the one with the largest score.
    predicted_place : int
        That class's place: two classes can have one name.
    value, predicted_value : float
        Of these two: probabilities, or scores where the classifier has no probabilities (an SVM).
    unit : str
        "probability" or "score".
    seen : float, default 1
        Share of the photograph's area that the network sees.
    known : tuple of str, default none
        The classes, all that the classifier knows.
    """

    subject: str
    image: str
    rgb: Bytes
    place: int
    name: str
    predicted: str
    predicted_place: int
    value: float
    predicted_value: float
    unit: str
    seen: float = 1.0
    known: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """``'ants' in a.jpg: probability 83 %, the predicted class (model.safetensors)``."""
        if self.place == self.predicted_place:
            rank = "the predicted class"
        else:
            rank = f"predicted is '{short(self.predicted)}', {as_text(self.predicted_value, self.unit)}"
        value = as_text(self.value, self.unit)
        if self.unit != "probability":
            value = f"SVM {value} ({SCORE_MEANS})"
        return (
            f"'{short(self.name)}' in {short_file(self.image)}: {value}, {rank} ({short_file(self.subject)})"
        )

    @property
    def heading(self) -> str:
        """The title of a picture: besides, why not much may be read out of it, if so."""
        return f"{self.title}. Beware: {'; '.join(self.cautions)}" if self.cautions else self.title

    @property
    def cautions(self) -> list[str]:
        """The doubt, and a warning where little of the photograph is seen."""
        return [text for text in (self.doubt, crop_caution(self.seen)) if text]

    @property
    def knows_only(self) -> str:
        """``knows only ants and bees``: one of a few classes is named whatever is in the image; empty of many."""
        if not 1 < len(self.known) <= FEW:
            return ""
        names = [short(name, 16) for name in self.known]
        return f"knows only {', '.join(names[:-1])} and {names[-1]}"

    @property
    def doubt(self) -> str | None:
        """Why not much may be read out of a picture about this class; None where the network is sure enough."""
        if self.place != self.predicted_place:
            if self.unit != "probability" or self.value >= UNSEEN:
                return None
            return f"the network sees no '{short(self.name)}' here, so the picture shows the little that speaks for it"
        chance = 1 / len(self.known) if self.unit == "probability" and len(self.known) > 1 else 0.0
        sure = (self.value - chance) / (1 - chance)
        if sure >= UNSURE:
            return None
        few = f", and {self.knows_only}" if self.knows_only else ""
        if sure < GUESS:
            return f"the network only guesses{few}, so the picture explains a guess"
        return f"the network is unsure{few}"

    def to_json(self) -> dict[str, Any]:
        """What a machine may want to know of it."""
        return {
            "model": self.subject,
            "image": self.image,
            "class": self.name,
            "place": self.place,
            self.unit: self.value,
            "predicted": self.predicted,
            "predicted_place": self.predicted_place,
            f"predicted_{self.unit}": self.predicted_value,
            "doubt": self.doubt,
            "seen": self.seen,
        }


def ask(subject: Subject, view: View, class_name: str | int | None = None) -> Question:
    """The question that a picture answers: about the class of that name or number, else the predicted one.

    Raises
    ------
    OptionError
        If there is no such class.
    ModelError
        If the network has no classifier.
    """
    names = subject.classes
    with torch.inference_mode():
        values = subject.values(subject.scores(view.pixels))[0]
    best = int(values.argmax())
    place = best if class_name is None else subject.class_place(class_name)
    return Question(
        subject.name,
        view.name,
        view.rgb,
        place,
        names[place],
        names[best],
        best,
        float(values[place]),
        float(values[best]),
        subject.unit,
        view.seen,
        tuple(names),
    )


def as_text(value: float, unit: str) -> str:
    """``probability 83 %`` or ``score -0.52``."""
    if unit != "probability":
        return f"{unit} {round(value, 2) + 0.0:.{2 if abs(value) < 0.995 else 1}f}"
    if 0 < value < 0.001:
        return "probability under 0.1 %"
    return f"probability {100 * value:.{0 if value >= 0.1 else 1}f} %"


def short(name: str, length: int = 30) -> str:
    """A class's name, cut where it would not fit into a picture."""
    return name if len(name) <= length else f"{name[: length - 3]}..."


def short_file(name: str, length: int = LONGEST_FILE) -> str:
    """A file's name, cut in the middle where it would fill a title: its beginning and its suffix tell it apart."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - end - 3]}...{name[-end:]}"
