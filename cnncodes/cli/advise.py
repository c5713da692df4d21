"""`cnncodes advise` and `probe`: which recipe for these images, which layer, and would more images help?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from cnncodes import advice, evaluation
from cnncodes.cli import options
from cnncodes.cli.arguments import (
    Cluster,
    Machine,
    Reading,
    check_folder,
    check_free,
    check_picture,
    load_weights,
    parse_C,
    parse_integers,
    parse_split,
)
from cnncodes.cli.console import Reporter, plain
from cnncodes.core.errors import OptionError
from cnncodes.core.outputs import write_whole
from cnncodes.core.words import duration, one_line, percent, shell

PICTURE, RECORD = "depth.png", "advice.json"  # in the folder of -o


def advise(
    reporter: Reporter,
    machine: Cluster,
    reading: Reading,
    data: options.Data,
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    fit: options.OneFit = None,
    output: options.AdviceFolder = None,
    split: options.SplitRule = "auto",
    seed: options.Seed = 0,
    thresholds: options.ThresholdsFile = None,
    verbose: options.Verbose = False,
) -> None:
    """Recommend a recipe for your images, with the reasons.

    At most 2,000 images go through the network once. Each layer is judged by how well it separates the classes: if the last
    one is as good as any before it, the images resemble those the weights were trained on. With many images, fine-tuning
    pays; with few, a linear head is safer. Up to 10 training images per class are too few to tell: recipe few-shot. If the
    centre crop shows little of the photos, padded photos are compared with it. Also lists copies in both splits, labels that look wrong, tiny classes and
    unreadable files.

        cnncodes advise photos/
        cnncodes advise photos/ -o advice
    """
    if output is not None:
        check_folder(output, (PICTURE, RECORD))
    catalog = reading.catalog(data)
    reporter.note(catalog.describe())
    loaded = load_weights(reporter, weights, model)
    with reporter.steps() as progress:
        found = advice.advise(
            catalog, loaded, data=reading.words(data, model), split=parse_split(split), thresholds=thresholds, seed=seed,
            fit=fit, progress=progress, **vars(machine),
        )  # fmt: skip
    print_advice(reporter, found, verbose)
    if output is not None:
        from cnncodes.pictures.results import save_depth

        folder = Path(output)
        written = [save_depth(found.evidence, folder / PICTURE)] if found.evidence.depths else []
        write_whole(folder / RECORD, json.dumps(plain(found), indent=2))
        reporter.note(f"written: {', '.join(map(str, [*written, folder / RECORD]))}")
    reporter.document(found)
    reporter.next(found.command)


def print_advice(reporter: Reporter, found: advice.Advice, verbose: bool = False) -> None:
    """Evidence, warnings, and the recipe with its reasons."""
    from cnncodes.advice.facts import Fact, note_text, option_text, reason_of

    evidence = found.evidence
    if evidence.depths:
        best = evidence.best_late
        title = f"accuracy by layer on {evidence.judged:,} training images (leave-one-out)"
        columns = ["layer", "numbers", "5 neighbours", "linear", f"over {best.stage}"]
        columns += ["LogME"] if verbose else []
        rows = []
        for depth in evidence.depths:
            pooled = f" (pooled to {depth.pooled_to} x {depth.pooled_to})" if depth.pooled_to else ""
            near = f"{100 * depth.neighbours:.1f} +- {100 * depth.neighbours_se:.1f} %"
            linear = f"{100 * depth.linear:.1f} +- {100 * depth.linear_se:.1f} %"
            over = None if depth is best else f"{100 * depth.behind:+.1f} +- {100 * depth.behind_se:.1f}"
            row = (depth.stage, f"{depth.numbers:,}{pooled}", near, linear, over, f"{depth.log_me:.3f}")
            rows.append(row[: len(columns)])
        reporter.table(title, columns, rows)
    reporter.result(f"always the largest class: {percent(evidence.majority)}; split: {evidence.size.how}")
    if evidence.confidence is not None:
        reporter.result(f"mean confidence of the network's own classifier: {percent(evidence.confidence)}")
    say_seen(reporter, found.seen)
    print_findings(reporter.result, found.warnings)
    reporter.result()
    for option, name in ((found.advised, "recipe"), (found.runner_up, "runner-up")):
        about = f"about {duration(option.seconds)} on {evidence.device} {option_text(option)}"
        reporter.result(f"{name}: {option.recipe} - {option.summary}; {about}")
    for reason in (*found.reasons, *filter(None, (found.close,))):
        reporter.result(f"- {one_line(str(reason_of(reason)))}")
    reporter.result(f"- {found.runner_up.recipe} is the runner-up. {reason_of(found.runner_up_reason)}")
    if found.untrained:
        reporter.result(f"- {note_text(Fact('untrained'))}")
    reporter.unreadable(found.unreadable)


def print_findings(
    say: Callable[[str], None], findings: tuple[advice.Finding, ...], most: int | None = None
) -> None:
    """What to look at in the data, with the first images or classes of each finding."""
    from cnncodes.advice.facts import case_text, finding_text

    for finding in findings:
        if finding.kind == "unreadable":  # listed below, where all commands list them
            continue
        say(f"look at: {one_line(finding_text(finding))}")
        for case in finding.cases[:most]:
            say(f"  {one_line(case_text(finding.kind, case))}")


def say_seen(reporter: Reporter, seen: float | None) -> None:
    """How much of a photograph the network sees, where that is not nearly all; ``seen`` is the median share."""
    from cnncodes.images.preprocess import NEARLY_ALL

    if seen is not None and seen < NEARLY_ALL:
        reporter.note(
            f"the network sees the centre of each photograph, a median of {100 * seen:.0f} % of it; --fit pad shows all of it"
        )


def probe(
    reporter: Reporter,
    machine: Machine,
    reading: Reading,
    data: options.LabelledData,
    weights: options.SeveralWeights = None,
    layers: options.ProbeLayers = "all",
    shots: options.ProbeShots = "15,30",
    repeats: options.Repeats = 5,
    against: options.Against = None,
    normalize: options.ProbeNormalize = "standard",
    C: options.ProbeC = "auto",
    output: options.ProbePicture = None,
    csv: options.DrawsFile = None,
    keep: options.KeepCodes = None,
    limit: options.TestLimit = 2000,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Measure accuracy by layer and number of images.

    Shows which layer is best, and whether more images would help. For each value of --shots, that many training images per
    class are drawn, a linear SVM is fitted on every layer, and the test split (or a held-out fifth) tests it: the protocol
    of Caltech-101 and of the table in Zeiler and Fergus 2014. The +- is the standard deviation over the draws. Codes are
    extracted once.

        cnncodes probe photos/ --shots 5,10,20 -o probe.png
        cnncodes probe photos/ --weights run/model.safetensors --against random:0,pixels
    """
    if output is not None:
        check_picture(output, overwrite)
    if csv is not None:
        check_free(csv, overwrite, option="--csv")
    value = parse_C(C)
    if isinstance(value, list):
        raise OptionError(f"--C '{C}' has several values.", "Give one, or auto.")
    with reporter.steps() as progress:
        result = advice.probe(
            reading.images(data, stored=evaluation.is_codes(data)), weights or None, layers=layers, shots=parse_shots(shots),
            repeats=repeats, against=[name for text in against or [] for name in text.split(",") if name], C=value,
            normalisation=cast("Any", normalize), limit=limit, seed=seed, keep=keep, progress=progress, **vars(machine),
        )  # fmt: skip
    _print_probe(reporter, result)
    if output is not None:
        from cnncodes.pictures.results import draw_probe

        reporter.note(f"written: {draw_probe(result, output)}")
    if csv is not None:
        write_whole(Path(csv), result.to_csv())
        reporter.note(f"written: {csv}")
    reporter.document(result)
    best = result.best()
    if evaluation.is_codes(data) and not weights:
        asked = f"{shell(data[0])} --layer {best.layer} --normalize standard -o model.safetensors"
        reporter.next(f"cnncodes fit-linear {asked}")
    else:
        named = "" if best.source == "imagenet" else f" --weights {shell(best.source)}"
        reporter.next(f"cnncodes extract {reading.words(data)} -o codes.h5{named} --layers {best.layer}")
    reporter.unreadable(result.unreadable)


def parse_shots(text: str) -> list[int | Literal["all"]]:
    """``15,30,all``: counts, and "all"."""
    words = [word.strip() for word in text.split(",")]
    numbers = [word for word in words if word != "all"]
    counts: list[int | Literal["all"]] = list(parse_integers(",".join(numbers), "--shots")) if numbers else []
    return [*counts, "all"] if "all" in words else counts


def _print_probe(reporter: Reporter, result: advice.ProbeResult) -> None:
    """The table, the notes, the best of each source and whether more images would help."""
    from cnncodes.advice.facts import learning_text

    for note in result.notes:
        reporter.note(f"note: {note}")
    first = {probe.shots: probe for probe in reversed(result.probes)}
    columns = ["weights", "layer", *(_column(first[shots]) for shots in result.shots), ""]
    rows = []
    for source in result.sources:
        best = result.best(source).layer
        for place, layer in enumerate(result.layers(source)):
            cells = [_cell(result.of(source, layer, shots)) for shots in result.shots]
            mark = "<-" if layer == best and len(result.layers(source)) > 1 else ""
            rows.append((source if place == 0 else "", layer, *cells, mark))
    tested = sorted({probe.tested for probe in result.probes})
    images = f"{tested[0]:,}" if len(tested) == 1 else f"{tested[0]:,} to {tested[-1]:,}"
    title = (
        f"accuracy (%), mean over {len(result.classes)} classes; images {result.how} ({images} images); "
        f"chance {percent(result.chance)}"
    )
    reporter.table(title, columns, rows)
    deep = [source for source in result.sources if len(result.layers(source)) > 1]
    for source in deep:
        entry = result.best(source)
        reporter.result(f"best layer of {source}: {entry.layer}, {percent(entry.mean)} ({_column(entry)})")
    if deep:
        reporter.note(
            "note: these test images selected the best layer; its accuracy on other images will be slightly lower"
        )
    reporter.result(learning_text(result.learning()))


def _column(probe: advice.Probe) -> str:
    return f"all ({probe.images:.0f}) per class" if probe.shots == "all" else f"{probe.shots} per class"


def _cell(probe: advice.Probe) -> str:
    spread = f" +- {100 * probe.sd:.1f}" if len(probe.accuracy) > 1 else ""
    return f"{100 * probe.mean:.1f}{spread}"
