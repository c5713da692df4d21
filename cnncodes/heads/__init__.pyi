"""The public names of this room, and where each lives."""

from cnncodes.heads.choice import DEFAULT_CS, Choice, choose_C, stratified_folds
from cnncodes.heads.codes_fit import LinearFit, few_shot_codes, fit_linear
from cnncodes.heads.confidence import Likeness, fit_temperature, log_softmax
from cnncodes.heads.fit import FewShot, FitResult, draw_few, few_shot, fit_head
from cnncodes.heads.head import Head, Normalisation
from cnncodes.heads.linear_model import LinearModel, is_model, load_model
from cnncodes.heads.scikit import check_exportable, export_head
from cnncodes.heads.splits import Split, split_rows
from cnncodes.heads.transformer import CNNCodes

__all__ = [
    "DEFAULT_CS",
    "CNNCodes",
    "Choice",
    "FewShot",
    "FitResult",
    "Head",
    "Likeness",
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
    "fit_temperature",
    "is_model",
    "load_model",
    "log_softmax",
    "split_rows",
    "stratified_folds",
]
