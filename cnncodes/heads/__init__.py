"""Linear heads on codes: linear SVM and softmax, the choice of C, normalisation, few-shot draws, the model file.

>>> from cnncodes.heads import fit_linear
>>> fit = fit_linear("codes.h5", layer="auto")                  # doctest: +SKIP
>>> fit.model.save("model.safetensors")                         # doctest: +SKIP

:func:`fit_head` works on arrays, :func:`fit_linear` on a codes file. scikit-learn is loaded only when one of
its solvers is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.heads.choice import DEFAULT_CS, Choice, choose_C
    from cnncodes.heads.draws import FewShot, draw_few, few_shot
    from cnncodes.heads.export import check_exportable, export_head
    from cnncodes.heads.fit import FitResult, fit_head
    from cnncodes.heads.folds import stratified_folds
    from cnncodes.heads.head import Head
    from cnncodes.heads.linear_model import (
        LinearFit,
        LinearModel,
        few_shot_codes,
        fit_linear,
        is_model,
        load_model,
    )
    from cnncodes.heads.normalise import Normalisation
    from cnncodes.heads.splits import Split, split_rows
    from cnncodes.heads.transformer import CNNCodes

_HOMES = {
    "DEFAULT_CS": "choice",
    "Choice": "choice",
    "choose_C": "choice",
    "check_exportable": "export",
    "export_head": "export",
    "FewShot": "draws",
    "draw_few": "draws",
    "few_shot": "draws",
    "FitResult": "fit",
    "fit_head": "fit",
    "stratified_folds": "folds",
    "Head": "head",
    "LinearFit": "linear_model",
    "LinearModel": "linear_model",
    "few_shot_codes": "linear_model",
    "fit_linear": "linear_model",
    "is_model": "linear_model",
    "load_model": "linear_model",
    "Normalisation": "normalise",
    "Split": "splits",
    "split_rows": "splits",
    "CNNCodes": "transformer",
}

__all__ = [
    "DEFAULT_CS",
    "CNNCodes",
    "Choice",
    "FewShot",
    "FitResult",
    "Head",
    "LinearFit",
    "LinearModel",
    "Normalisation",
    "Split",
    "check_exportable",
    "choose_C",
    "draw_few",
    "export_head",
    "few_shot",
    "few_shot_codes",
    "fit_head",
    "fit_linear",
    "is_model",
    "load_model",
    "split_rows",
    "stratified_folds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # A function may have the name of its module (few_shot): the function is the public one.
    globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return globals()[name]
