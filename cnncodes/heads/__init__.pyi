"""The public names of this room, and where each lives."""

from cnncodes.heads.calibration import fit_temperature, log_softmax
from cnncodes.heads.choice import DEFAULT_CS, Choice, choose_C
from cnncodes.heads.codes_fit import LinearFit, few_shot_codes, fit_linear
from cnncodes.heads.draws import FewShot, draw_few, few_shot
from cnncodes.heads.export import check_exportable, export_head
from cnncodes.heads.fit import FitResult, fit_head
from cnncodes.heads.folds import stratified_folds
from cnncodes.heads.head import Head
from cnncodes.heads.likeness import Likeness
from cnncodes.heads.linear_model import LinearModel, is_model, load_model
from cnncodes.heads.normalise import Normalisation
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
