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


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first.

    ``probabilities`` is None for an SVM, whose scores are distances and not odds; ``problem`` is the reason
    why an image could not be read, and then the rest is empty.
    """

    name: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] | None = None
    problem: str | None = None

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
        found.append(
            Prediction(
                name,
                tuple(model.classes[place] for place in best),
                tuple(float(values[place]) for place in best),
                tuple(float(odds[place] / odds.sum()) for place in best) if softmax else None,
            )
        )
    return found
