"""Which classes are in these images: the best classes of each."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnncodes.core.errors import OptionError
from cnncodes.evaluation.scores import NOT_FINITE, Data, Scores, is_codes, score
from cnncodes.heads.choice import leads
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.catalog import Catalog, read_catalog

#: A decision is close where the best class leads the second by less than this share of the model's usual lead. Scores grow
#: with C, and their leads with them: at C = 1e-5 an SVM's are some 1e-5, and no fixed number would do. Measured on images
#: kept to test of ants and bees, six scenes and ten textures (fc6, both heads, C from 1e-5 to 100): 11 to 23 % are close,
#: and of these the share of right answers is 13 to 39 points below that of the others.
CLOSE_SHARE = 1 / 3


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first.

    Parameters
    ----------
    name : str
    classes : tuple of str
    scores : tuple of float
        Of these classes. Of an SVM: the highest is the answer, which may be below 0 where there are more than two classes; the
        smaller C, the smaller all scores. Of softmax: the logarithm of the probability, but for a
        constant.
    probabilities : tuple of float or None
        None for an SVM, whose scores are distances and not odds.
    problem : str or None
        Why an image could not be read; then the rest is empty.
    lead : float or None
        How far the best class is before the second: probability of a softmax, score of an SVM.
    close : bool or None
        Whether that is less than a third of the model's usual lead (:attr:`LinearModel.usual_lead`), so that the decision
        could as well have been the other. None where the usual lead is not known: of networks, and of old models.
    """

    name: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] | None = None
    problem: str | None = None
    lead: float | None = None
    close: bool | None = None

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return json.dumps(dataclasses.asdict(self))


def predict(
    model: AnyModel,
    data: Data,
    *,
    top: int = 5,
    **options: Any,
) -> list[Prediction]:
    """The most probable classes of each image, best first, in the order of the catalog.

    ``model`` is a loaded model, a model's file, a run's folder or weights; ``top`` is the number of classes; the other
    options are those of :func:`score`.

    Raises
    ------
    OptionError
        If ``top`` is not 1 or more.
    """
    model = _checked(model, top)
    if not isinstance(data, Catalog) and not is_codes(data):
        data = read_catalog(data, classes_are="none")  # nobody asks for the classes that the folders may be
    return predictions_of(model, score(model, data, **options), top)


def predictions_of(model: AnyModel, scores: Scores, top: int = 5) -> list[Prediction]:
    """Predictions from scores that are there; raises as :func:`predict`."""
    model = _checked(model, top)
    found = []
    softmax, usual = model.head.kind == "softmax", model.usual_lead
    for name, values in zip(scores.catalog.names, scores.values, strict=True):
        if np.isnan(values).any():
            found.append(Prediction(name, problem=scores.problems.get(name, NOT_FINITE)))
            continue
        best = np.argsort(-values, kind="stable")[:top]
        odds = np.exp(values - values.max())
        odds = odds / odds.sum()
        lead = float(leads(values[None], model.head.kind)[0]) if len(values) > 1 else None
        found.append(
            Prediction(
                name,
                tuple(model.classes[place] for place in best),
                tuple(float(values[place]) for place in best),
                tuple(float(odds[place]) for place in best) if softmax else None,
                lead=lead,
                close=None if lead is None or usual is None else lead < CLOSE_SHARE * usual,
            )
        )
    return found


def _checked(model: AnyModel, top: int) -> LinearModel:
    if top < 1:
        raise OptionError(f"the {top} best classes cannot be given.", "Use 1 or more.")
    return load_model(model)
