"""`cnncodes probe`: which layer, and would more pictures help?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnncodes.cli import options
from cnncodes.cli.arguments import check_free, check_picture, parse_C, parse_integers
from cnncodes.cli.console import Reporter
from cnncodes.cli.groups import Machine, Reading
from cnncodes.core.errors import OptionError
from cnncodes.core.words import percent, shell

if TYPE_CHECKING:
    from cnncodes.advice.probe_result import Probe, ProbeResult, Shots


def probe(
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
    *,
    machine: Machine,
    reading: Reading,
    reporter: Reporter,
) -> None:
    """Measure accuracy by layer and number of images.

    Shows which layer is best, and whether more images would help. For each value of --shots, that many training images per
    class are drawn, a linear SVM is fitted on every layer, and the test split (or a held-out fifth) tests it: the protocol
    of Caltech-101 and of the table in Zeiler and Fergus 2014. The +- is the standard deviation over the draws. Codes are
    extracted once.

        cnncodes probe photos/ --shots 5,10,20 -o probe.png

        cnncodes probe photos/ --weights run/model.safetensors --against random:0,pixels
    """
    from cnncodes.advice.probing import probe as run_probe
    from cnncodes.core.outputs import write_whole
    from cnncodes.evaluation import is_codes

    if output is not None:
        check_picture(output, overwrite)
    if csv is not None:
        check_free(csv, overwrite, option="--csv")
    value = parse_C(C)
    if isinstance(value, list):
        raise OptionError(f"--C '{C}' has several values.", "Give one, or auto.")
    with reporter.steps() as progress:
        result = run_probe(
            reading.images(data, stored=is_codes(data)), weights or None, layers=layers, shots=parse_shots(shots),
            repeats=repeats, against=[name for text in against or [] for name in text.split(",") if name], C=value,
            normalisation=cast("Any", normalize), limit=limit, seed=seed, keep=keep, progress=progress, **vars(machine),
        )  # fmt: skip
    _print(reporter, result)
    if output is not None:
        from cnncodes.pictures.results import draw_probe

        reporter.note(f"written: {draw_probe(result, output)}")
    if csv is not None:
        write_whole(Path(csv), result.to_csv())
        reporter.note(f"written: {csv}")
    reporter.document(result)
    reporter.next(_next(result, data, reading, weights or []))
    reporter.unreadable(result.unreadable)


def parse_shots(text: str) -> list[Shots]:
    """``15,30,all``: counts, and "all"."""
    words = [word.strip() for word in text.split(",")]
    numbers = [word for word in words if word != "all"]
    counts: list[Shots] = list(parse_integers(",".join(numbers), "--shots")) if numbers else []
    return [*counts, "all"] if "all" in words else counts


def _print(reporter: Reporter, result: ProbeResult) -> None:
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


def _column(probe: Probe) -> str:
    return f"all ({probe.images:.0f}) per class" if probe.shots == "all" else f"{probe.shots} per class"


def _cell(probe: Probe) -> str:
    spread = f" +- {100 * probe.sd:.1f}" if len(probe.accuracy) > 1 else ""
    return f"{100 * probe.mean:.1f}{spread}"


def _next(result: ProbeResult, data: list[str], reading: Reading, weights: list[str]) -> str:
    """Fit the best layer: of the codes file, or after an extraction."""
    best = result.best()
    from cnncodes.evaluation import is_codes

    if is_codes(data) and not weights:
        return f"cnncodes fit-linear {shell(data[0])} --layer {best.layer} --normalize standard -o model.safetensors"
    named = "" if best.source == "imagenet" else f" --weights {shell(best.source)}"
    return f"cnncodes extract {reading.words(data)} -o codes.h5{named} --layers {best.layer}"
