"""`cnncodes fit-linear`: codes to a linear SVM or softmax head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from cnncodes import advice, evaluation, heads
from cnncodes.cli import options
from cnncodes.cli.arguments import check_free, parse_bytes, parse_C, parse_integers, parse_split
from cnncodes.cli.console import Reporter
from cnncodes.cli.evaluate import print_evaluation
from cnncodes.cli.recipes import choose_recipe
from cnncodes.core.errors import OptionError, nearest
from cnncodes.core.words import duration, percent, shell

EXPORTED = {"sklearn": ".skops", "onnx": ".onnx"}  # format of --export -> suffix


def fit_linear(
    reporter: Reporter,
    codes: options.Codes,
    output: options.Output,
    recipe: options.Recipe = None,
    layer: options.Layer = None,
    head: options.HeadKind = None,
    C: options.C = None,
    folds: options.Folds = 5,
    normalize: options.Normalize = None,
    class_weight: options.ClassWeight = None,
    split: options.SplitRule = "auto",
    shots: options.Shots = None,
    repeats: options.Repeats = 5,
    set_: options.Set = None,
    seed: options.Seed = 0,
    workers: options.FitWorkers = None,
    ray: options.FitRay = None,
    memory: options.FitMemory = None,
    device: options.FitDevice = "auto",
    export: options.ExportModel = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fit a linear SVM or softmax head on codes.

    C is chosen on the val split, or by stratified folds if there is none. The head is then fitted on all rows that it may
    use, and tested on images that it has not seen.

        cnncodes fit-linear codes.h5 --layer auto -o model.safetensors
        cnncodes fit-linear codes.h5 --head softmax --C 0.1,1,10 -o model.safetensors
        cnncodes fit-linear codes.h5 --recipe few-shot -o model.safetensors
    """
    check_free(output, overwrite, suffix=".safetensors")
    if export is not None:  # what would stop it after the work
        if export not in EXPORTED:
            raise OptionError(f"--export '{export}' is not known.", nearest(export, EXPORTED))
        target = Path(output).with_suffix(EXPORTED[export])
        check_free(target, overwrite)
        heads.check_exportable(export)
    if C is not None:
        parse_C(C)  # its message shows how several are written
    chosen = choose_recipe(
        "linear", recipe, set_,
        {"--layer": ("head.layer", layer), "--head": ("head.kind", head), "--C": ("head.C", C),
         "--normalize": ("head.normalize", normalize)},
    )  # fmt: skip
    for text in set_ or []:
        if not text.strip().startswith("head."):
            raise OptionError(
                f"--set {text} has no effect here: the codes are extracted already.",
                "Set an entry of the head, such as --set head.C=1, or extract again.",
            )
    wanted = chosen.head
    counts = parse_integers(shots, "--shots") if shots is not None else []
    jobs = workers or -1
    state = Path(output).with_name(f".{Path(output).stem}.fit")
    with reporter.steps() as progress:
        found = heads.fit_linear(
            codes, layer=None if wanted.layer == advice.HeadSettings().layer and layer is None else wanted.layer,
            kind=wanted.kind, C=wanted.C, folds=folds, normalisation=wanted.normalize,
            class_weight=cast("Any", class_weight), split=parse_split(split), seed=seed, jobs=jobs, ray=ray,
            memory=None if memory is None else parse_bytes(memory, "--memory"), device=device, state=state,
            progress=progress,
        )  # fmt: skip
    model, tested = found.model, found.split.test
    if recipe is not None:
        _compare_codes(reporter, chosen, found)
    reporter.note(f"rows: {found.split.how}")
    if found.in_blocks:
        limit = "--memory" if memory else "half of the free memory (--memory sets another limit)"
        reporter.note(f"the codes need more than {limit}: they were read in blocks, several times")
    if found.learned:
        reporter.warn(
            f"the weights were trained on {found.learned:,} of the {len(tested):,} test images: the test accuracy is too "
            "high; evaluate on other images"
        )
    _print_choice(reporter, found)
    document: dict[str, Any] = {"model": output, **model.evidence}
    if len(tested):
        result = evaluation.evaluate(model, codes, rows=tested, copies=found.split.left_out)
        print_evaluation(reporter, result)
        document["evaluation"] = result
    if counts:
        drawn: dict[str, Any] = {"shots": counts, "repeats": repeats, "C": wanted.C, "seed": seed}
        few = heads.few_shot_codes(codes, found, **drawn, jobs=jobs)
        reporter.table(
            f"few images per class, {model.stage}, normalised by {wanted.normalize}, tested on {len(tested):,}",
            ("shots", "accuracy", "sd of draws", "draws"),
            [(row.shots, percent(row.mean), percent(row.sd), len(row.accuracy)) for row in few],
        )
        document["few_shot"] = few
    model.save(output, overwrite=overwrite)
    if export is not None:
        reporter.note(f"written: {heads.export_head(model.head, target, to=export, overwrite=overwrite)}")
    fitted = f"{model.stage}, fitted on {model.images_fitted:,} images"
    reporter.note(f"written: {output} ({len(model.classes)} classes, {fitted})")
    reporter.document(document)
    reporter.next(f"cnncodes predict {shell(output)} photo.jpg")


def _compare_codes(reporter: Reporter, recipe: advice.Recipe, found: heads.LinearFit) -> None:
    """Say so if the codes are not those that the recipe is for."""
    from cnncodes.heads.linear_model import averaged

    settings = found.model.settings
    if averaged(recipe.extract.crops) != settings.crops:
        expected = f"'--crops {recipe.extract.crops}'"
        reporter.warn(f"the recipe expects codes of {expected}; this file has '{settings.crops}'")
    tried = {found.model.stage, *found.compared}
    missing = [stage for stage in settings.architecture.select(recipe.extract.layers) if stage not in tried]
    if recipe.head.layer == "auto" and missing:
        reporter.warn(f"the recipe also tries {', '.join(missing)}, which this file does not have")


def _print_choice(reporter: Reporter, found: heads.LinearFit) -> None:
    """The accuracies by which layer and C were chosen."""
    if len(found.compared) > 1:
        layers = [
            (stage, percent(accuracy), "<-" if stage == found.model.stage else "")
            for stage, accuracy in found.compared.items()
        ]
        reporter.table("layers, by the accuracy that chooses C", ("layer", "accuracy", ""), layers)
    if (choice := found.result.choice) is not None:
        tried = [
            (f"{C:g}", percent(mean), percent(sd), "<-" if choice.best == C else "")
            for C, mean, sd in zip(choice.C, choice.accuracy, choice.sd, strict=True)
        ]
        title = f"accuracy for each C on {found.model.stage} ({choice.how})"
        reporter.table(title, ("C", "accuracy", "sd", ""), tried)
        reporter.note(f"chosen in {duration(choice.seconds)}; final fit by {found.result.solver}")
