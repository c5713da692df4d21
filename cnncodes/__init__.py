"""Transfer learning with AlexNet: images to CNN codes to a classifier, with evidence.

The public names are loaded when they are first used, so that importing the package costs nothing:

>>> import cnncodes
>>> catalog = cnncodes.read_catalog("photos/")                                        # doctest: +SKIP
>>> cnncodes.extract(catalog, "codes.h5", cnncodes.load_weights("imagenet"))          # doctest: +SKIP
>>> fit = cnncodes.fit_linear("codes.h5", layer="auto")                               # doctest: +SKIP
>>> cnncodes.predict(fit.model, ["a.jpg", "b.jpg"])                                   # doctest: +SKIP
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.advice import Recipe, advise, compare, find_strays, load_recipe, probe, run
    from cnncodes.codes import CodesFile, check_codes, export_codes, extract, plan_extraction, run_extraction
    from cnncodes.core.errors import CnnCodesError
    from cnncodes.evaluation import evaluate, evaluate_average, predict, score
    from cnncodes.heads import CNNCodes, LinearModel, fit_head, fit_linear
    from cnncodes.images import Catalog, read_catalog
    from cnncodes.networks import get_network, stage_table
    from cnncodes.page import explore
    from cnncodes.weights import Preprocessing, Weights, build_network, load_weights, save_weights

__version__ = "0.1.0"

_HOMES = {
    "CnnCodesError": "core.errors",
    "get_network": "networks",
    "stage_table": "networks",
    "Preprocessing": "weights",
    "Weights": "weights",
    "build_network": "weights",
    "load_weights": "weights",
    "save_weights": "weights",
    "Catalog": "images",
    "read_catalog": "images",
    "CodesFile": "codes",
    "check_codes": "codes",
    "export_codes": "codes",
    "explore": "page",
    "extract": "codes",
    "plan_extraction": "codes",
    "run_extraction": "codes",
    "CNNCodes": "heads",
    "LinearModel": "heads",
    "fit_head": "heads",
    "fit_linear": "heads",
    "advise": "advice",
    "compare": "advice",
    "find_strays": "advice",
    "probe": "advice",
    "run": "advice",
    "evaluate": "evaluation",
    "evaluate_average": "evaluation",
    "predict": "evaluation",
    "score": "evaluation",
    "Recipe": "advice",
    "load_recipe": "advice",
}

__all__ = [
    "CNNCodes",
    "Catalog",
    "CnnCodesError",
    "CodesFile",
    "LinearModel",
    "Preprocessing",
    "Recipe",
    "Weights",
    "advise",
    "build_network",
    "check_codes",
    "compare",
    "evaluate",
    "evaluate_average",
    "explore",
    "export_codes",
    "extract",
    "find_strays",
    "fit_head",
    "fit_linear",
    "get_network",
    "load_recipe",
    "load_weights",
    "plan_extraction",
    "predict",
    "probe",
    "read_catalog",
    "run",
    "run_extraction",
    "save_weights",
    "score",
    "stage_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__version__"]


def _use_one_thread() -> None:
    """In a child that was forked: the threads of torch's pool are the parent's, and waiting for them here would never end."""
    set_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_threads is not None:
        set_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_use_one_thread)
