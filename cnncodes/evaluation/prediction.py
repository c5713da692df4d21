"""Which classes are in these images: the best classes of each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncodes.errors import OptionError
from cnncodes.evaluation.scores import Data, Scores, score
from cnncodes.heads.linear_model import LinearModel

#: The best class leads the second by less than this: a close decision. Measured on images kept to test of ants and bees,
#: six scenes and ten textures (fc6, C = 1): of the close ones 55 to 61 % are right with an SVM and 50 to 60 % with
#: softmax, of the others 84 to 91 %.
CLOSE_SCORE = 0.5
CLOSE_PROBABILITY = 0.2


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first.

    Parameters
    ----------
    name : str
    classes : tuple of str
    scores : tuple of float
        Of these classes. Of an SVM: above 0 speaks for the class, below against it, and the farther the surer; 1 is
        where the images that it was fitted on should lie. Of softmax: the logarithm of the probability, but for a
        constant.
    probabilities : tuple of float or None
        None for an SVM, whose scores are distances and not odds.
    problem : str or None
        Why an image could not be read; then the rest is empty.
    lead : float or None
        How far the best class is before the second: probability of a softmax, score of an SVM.
    close : bool
        Whether that is so little (0.2 or 0.5) that the decision could as well have been the other.
    """

    name: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] | None = None
    problem: str | None = None
    lead: float | None = None
    close: bool = False

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(dataclasses.asdict(self))


def predict(
    model: LinearModel,
    data: Data,
    *,
    top: int = 5,
    **options: Any,
) -> list[Prediction]:
    """The most probable classes of each image, best first, in the order of the catalog.

    ``top`` is the number of classes; the other options are those of :func:`score`.
    """
    if top < 1:
        raise OptionError(f"the {top} best classes cannot be given.", "Use 1 or more.")
    return predictions_of(model, score(model, data, **options), top)


def predictions_of(model: LinearModel, scores: Scores, top: int = 5) -> list[Prediction]:
    """Predictions from scores that are there."""
    found = []
    softmax = model.head.kind == "softmax"
    for name, values in zip(scores.catalog.names, scores.values, strict=True):
        if np.isnan(values).any():
            found.append(Prediction(name, problem=scores.problems.get(name, "not extracted yet")))
            continue
        best = np.argsort(-values, kind="stable")[:top]
        odds = np.exp(values - values.max())
        odds = odds / odds.sum()
        two = np.sort(odds if softmax else values)[-2:]
        lead = float(two[1] - two[0]) if len(two) == 2 else None
        found.append(
            Prediction(
                name,
                tuple(model.classes[place] for place in best),
                tuple(float(values[place]) for place in best),
                tuple(float(odds[place]) for place in best) if softmax else None,
                lead=lead,
                close=lead is not None and lead < (CLOSE_PROBABILITY if softmax else CLOSE_SCORE),
            )
        )
    return found
