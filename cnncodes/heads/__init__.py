"""Linear heads on codes: linear SVM and softmax, the choice of C, normalisation, few-shot draws.

>>> from cnncodes.heads import fit_head
>>> result = fit_head(codes, labels, classes, kind="svm")       # doctest: +SKIP
>>> result.head.predict(new_codes)                              # doctest: +SKIP

The room works on arrays: who reads a codes file or writes a model file passes arrays in and takes records
out. scikit-learn is loaded only when one of its solvers is called.
"""

from cnncodes.heads.choice import DEFAULT_CS, Choice, choose_C
from cnncodes.heads.few_shot import FewShot, draw_few, few_shot
from cnncodes.heads.fit import FitResult, fit_head
from cnncodes.heads.folds import stratified_folds
from cnncodes.heads.head import Head
from cnncodes.heads.normalise import Normalisation

__all__ = [
    "DEFAULT_CS",
    "Choice",
    "FewShot",
    "FitResult",
    "Head",
    "Normalisation",
    "choose_C",
    "draw_few",
    "few_shot",
    "fit_head",
    "stratified_folds",
]
