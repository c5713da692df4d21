"""`cnncodes fit-linear`: codes to a linear SVM or softmax head."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cnncodes.cli import head_options, options
from cnncodes.cli.choice import choose_recipe
from cnncodes.cli.console import Reporter
from cnncodes.cli.results import print_evaluation
from cnncodes.core.errors import OptionError, nearest
from cnncodes.core.words import duration, percent, shell

if TYPE_CHECKING:
    from cnncodes.advice import Recipe
    from cnncodes.heads import LinearFit


def fit_linear(
    codes: options.Codes,
    output: options.Output,
    recipe: options.Recipe = None,
    layer: head_options.Layer = None,
    head: head_options.HeadKind = None,
    C: head_options.C = None,
    folds: head_options.Folds = 5,
    normalize: head_options.Normalize = None,
    class_weight: head_options.ClassWeight = None,
    split: options.SplitRule = "auto",
    shots: head_options.Shots = None,
    repeats: options.Repeats = 5,
    set_: options.Set = None,
    seed: options.Seed = 0,
    workers: head_options.FitWorkers = None,
    export: head_options.ExportModel = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Codes -> a linear SVM or softmax head, C chosen by evidence.

    C is chosen on the val split, or by stratified folds where there is none; then the head is fitted on all
    rows it may use, and tested on images that it has not seen.

        cnncodes fit-linear codes.h5 --layer auto -o model.safetensors

        cnncodes fit-linear codes.h5 --head softmax --C 0.1,1,10 -o model.safetensors

        cnncodes fit-linear codes.h5 --recipe few-shot -o model.safetensors
    """
    from cnncodes.advice.recipe_schema import HeadSettings
    from cnncodes.evaluation import evaluate
    from cnncodes.heads import fit_linear as fit

    reporter = Reporter(json, quiet)
    options.check_free(output, overwrite, suffix=".safetensors")
    target = _export_target(output, export, overwrite) if export is not None else None
    if C is not None:
        options.parse_C(C)  # its message shows how several are written
    chosen = choose_recipe(
        "linear", recipe, set_,
        {"--layer": ("head.layer", layer), "--head": ("head.kind", head), "--C": ("head.C", C),
         "--normalize": ("head.normalize", normalize)},
    )  # fmt: skip
    _only_the_head(set_ or [])
    wanted = chosen.head
    counts = options.parse_integers(shots, "--shots") if shots is not None else []
    found = fit(
        codes,
        layer=None if wanted.layer == HeadSettings().layer and layer is None else wanted.layer,
        kind=wanted.kind,
        C=wanted.C,
        folds=folds,
        normalisation=wanted.normalize,
        class_weight=cast("Any", class_weight),
        split=options.parse_split(split),
        seed=seed,
        jobs=workers or -1,
    )
    model = found.model
    if recipe is not None:
        _compare_codes(reporter, chosen, found)
    _print_rows(reporter, found)
    _print_choice(reporter, found)
    document: dict[str, Any] = {"model": output, **model.evidence}
    if len(found.split.test):
        result = evaluate(model, codes, rows=found.split.test, copies=found.split.left_out)
        print_evaluation(reporter, result)
        document["evaluation"] = json_module.loads(result.to_json())
    if counts:
        document["few_shot"] = _few_shots(
            reporter, codes, found, shots=counts, repeats=repeats, C=wanted.C, seed=seed,
            jobs=workers or -1,
        )  # fmt: skip
    model.save(output, overwrite=overwrite)
    if export is not None and target is not None:
        reporter.note(f"exported to {_export(found, export, target, overwrite)}")
    reporter.note(
        f"written: {output} ({len(model.classes)} classes, {model.stage}, fitted on {model.images_fitted:,} images)"
    )
    reporter.document(document)
    reporter.next(f"cnncodes predict {shell(output)} photo.jpg")


def _only_the_head(assignments: list[str]) -> None:
    for text in assignments:
        if not text.strip().startswith("head."):
            raise OptionError(
                f"--set {text} would change nothing here: the codes are there already.",
                "Set an entry of the head, such as --set head.C=1, or extract again.",
            )


def _compare_codes(reporter: Reporter, recipe: Recipe, found: LinearFit) -> None:
    """Say so if the codes are not those that the recipe is for."""
    from cnncodes.heads.linear_model import averaged

    settings = found.model.settings
    if averaged(recipe.extract.crops) != settings.crops:
        reporter.warn(
            f"the recipe is for codes of '--crops {recipe.extract.crops}'; this file has '{settings.crops}'"
        )
    tried = {found.model.stage, *found.compared}
    missing = [stage for stage in settings.architecture.select(recipe.extract.layers) if stage not in tried]
    if recipe.head.layer == "auto" and missing:
        reporter.warn(f"the recipe tries {', '.join(missing)} too, which this file does not have")


def _print_rows(reporter: Reporter, found: LinearFit) -> None:
    reporter.note(f"rows: {found.split.how}")
    if found.learned:
        reporter.warn(
            f"the weights were trained on {found.learned:,} of the {len(found.split.test):,} images that test this "
            "head: for what it is worth on new ones, evaluate it on others"
        )


def _print_choice(reporter: Reporter, found: LinearFit) -> None:
    if len(found.compared) > 1:
        rows = [
            (stage, percent(accuracy), "<-" if stage == found.model.stage else "")
            for stage, accuracy in found.compared.items()
        ]
        reporter.table("layers, by the accuracy that chooses C", ("layer", "accuracy", ""), rows)
    choice = found.result.choice
    if choice is None:
        return
    tried = [
        (f"{C:g}", percent(mean), percent(sd), "<-" if choice.best == C else "")
        for C, mean, sd in zip(choice.C, choice.accuracy, choice.sd, strict=True)
    ]
    reporter.table(
        f"accuracy for each C on {found.model.stage} ({choice.how})", ("C", "accuracy", "sd", ""), tried
    )
    reporter.note(f"chosen in {duration(choice.seconds)}; final fit by {found.result.solver}")


def _few_shots(
    reporter: Reporter,
    codes: str,
    found: LinearFit,
    *,
    shots: list[int],
    repeats: int,
    C: float | Sequence[float] | Literal["auto"],
    seed: int,
    jobs: int,
) -> list[Any]:
    from cnncodes.heads import few_shot_codes

    results = few_shot_codes(codes, found, shots=shots, repeats=repeats, C=C, seed=seed, jobs=jobs)
    rows = [(row.shots, percent(row.mean), percent(row.sd), len(row.accuracy)) for row in results]
    reporter.table(
        f"few images per class, {found.model.stage}, tested on {len(found.split.test):,}",
        ("shots", "accuracy", "sd", "draws"),
        rows,
    )
    return [json_module.loads(row.to_json()) for row in results]


def _export_target(output: str, to: str, overwrite: bool) -> Path:
    """Where the exported head goes; raises now what would stop it after the work."""
    from cnncodes.heads import check_exportable

    suffixes = {"sklearn": ".skops", "onnx": ".onnx"}
    if to not in suffixes:
        raise OptionError(f"--export '{to}' is not known.", nearest(to, suffixes))
    target = Path(output).with_suffix(suffixes[to])
    options.check_free(target, overwrite)
    check_exportable(to)
    return target


def _export(found: LinearFit, to: str, target: Path, overwrite: bool) -> Path:
    from cnncodes.heads import export_head

    return export_head(found.model.head, target, to=to, overwrite=overwrite)
