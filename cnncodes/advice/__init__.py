"""Advice: recipes, what they say, and where they are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnncodes.advice.comparing import ComparedModel, FailedModel, ModelComparison, compare
    from cnncodes.advice.decision import Advice, advise
    from cnncodes.advice.evidence import Evidence
    from cnncodes.advice.facts import Finding
    from cnncodes.advice.probe_result import Probe, ProbeResult
    from cnncodes.advice.probing import probe
    from cnncodes.advice.recipe import (
        Recipe,
        RecipeError,
        find_recipe,
        load_recipe,
        plain_recipe,
        recipe_files,
        recipe_summary,
    )
    from cnncodes.advice.recipe_schema import ExtractSettings, HeadSettings, When
    from cnncodes.advice.run_record import RunPlan, RunReport
    from cnncodes.advice.steps import plan_run, run
    from cnncodes.advice.strays import Stray, Strays, find_strays

_HOMES = {
    "ComparedModel": "comparing",
    "FailedModel": "comparing",
    "ModelComparison": "comparing",
    "compare": "comparing",
    "RunPlan": "run_record",
    "RunReport": "run_record",
    "plan_run": "steps",
    "run": "steps",
    "Probe": "probe_result",
    "ProbeResult": "probe_result",
    "probe": "probing",
    "Advice": "decision",
    "advise": "decision",
    "Evidence": "evidence",
    "Finding": "facts",
    "Recipe": "recipe",
    "RecipeError": "recipe",
    "load_recipe": "recipe",
    "plain_recipe": "recipe",
    "ExtractSettings": "recipe_schema",
    "HeadSettings": "recipe_schema",
    "When": "recipe_schema",
    "find_recipe": "recipe",
    "recipe_files": "recipe",
    "recipe_summary": "recipe",
    "Stray": "strays",
    "Strays": "strays",
    "find_strays": "strays",
}

__all__ = [
    "Advice",
    "ComparedModel",
    "Evidence",
    "ExtractSettings",
    "FailedModel",
    "Finding",
    "HeadSettings",
    "ModelComparison",
    "Probe",
    "ProbeResult",
    "Recipe",
    "RecipeError",
    "RunPlan",
    "RunReport",
    "Stray",
    "Strays",
    "When",
    "advise",
    "compare",
    "find_recipe",
    "find_strays",
    "load_recipe",
    "plain_recipe",
    "plan_run",
    "probe",
    "recipe_files",
    "recipe_summary",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"cnncodes.advice.{_HOMES[name]}"), name)
