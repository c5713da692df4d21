"""`cnncodes probe`: which layer, and would more pictures help?"""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnncodes.cli import advice_options, options
from cnncodes.cli.console import Reporter
from cnncodes.core.errors import OptionError
from cnncodes.core.words import percent, quoted, shell

if TYPE_CHECKING:
    from cnncodes.advice.draws import Shots
    from cnncodes.advice.probe_result import Probe, ProbeResult


@options.takes_data
def probe(
    data: advice_options.LabelledData,
    weights: advice_options.SeveralWeights = None,
    layers: advice_options.ProbeLayers = "all",
    shots: advice_options.ProbeShots = "15,30",
    repeats: options.Repeats = 5,
    against: advice_options.Against = None,
    normalize: advice_options.ProbeNormalize = "standard",
    C: advice_options.ProbeC = "auto",
    output: advice_options.Picture = None,
    csv: advice_options.CsvFile = None,
    keep: advice_options.Keep = None,
    limit: advice_options.TestLimit = 2000,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Accuracy by layer and by images per class, and whether more pictures would help.

    For each number of images per class, that many are drawn to learn from (train split, or what is not held out), a linear
    SVM is fitted on every layer, and the test split (or the held-out fifth) tests it: the protocol of Caltech-101, the table
    of Zeiler and Fergus 2014. The +- is the standard deviation over the draws. Images are extracted once.

        cnncodes probe photos/ --shots 5,10,20 -o probe.png

        cnncodes probe photos/ --weights run/model.safetensors --against random:0,pixels
    """
    from cnncodes.advice.probing import probe as run_probe
    from cnncodes.core.outputs import write_whole
    from cnncodes.evaluation import is_codes

    reporter = Reporter(json, quiet)
    for path, suffix in ((output, ".png"), (csv, "")):
        if path is not None:
            options.check_picture(path, suffix, overwrite)
    value = options.parse_C(C)
    if isinstance(value, list):
        raise OptionError(f"--C '{C}' has several values.", "Give one, or auto.")
    with reporter.steps() as progress:
        result = run_probe(
            options.read_images(data, reading, stored=is_codes(data)), weights or None, layers=layers, shots=parse_shots(shots), repeats=repeats,
            against=[name for text in against or [] for name in text.split(",") if name], C=value,
            normalisation=cast("Any", normalize), limit=limit, seed=seed, keep=keep, device=device,
            workers=workers, progress=progress,
        )  # fmt: skip
    _print(reporter, result)
    if output is not None:
        from cnncodes.pictures.probe import draw_probe

        reporter.note(f"written: {draw_probe(result, output)}")
    if csv is not None:
        write_whole(Path(csv), result.to_csv())
        reporter.note(f"written: {csv}")
    reporter.document(json_module.loads(result.to_json()))
    reporter.next(_next(result, data, reading, weights or []))
    for name, reason in result.unreadable.items():
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    if result.unreadable:
        raise options.Exit(3)


def parse_shots(text: str) -> list[Shots]:
    """``15,30,all``: counts, and "all"."""
    words = [word.strip() for word in text.split(",")]
    numbers = [word for word in words if word != "all"]
    counts: list[Shots] = list(options.parse_integers(",".join(numbers), "--shots")) if numbers else []
    return [*counts, "all"] if "all" in words else counts


def _print(reporter: Reporter, result: ProbeResult) -> None:
    """The table, the notes, the best of each source and whether more images would help."""
    from cnncodes.advice.sentences import learning_text

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
        f"accuracy, mean of {len(result.classes)} classes, in percent; images {result.how} "
        f"({images} images); by chance {percent(result.chance)}"
    )
    reporter.table(title, columns, rows)
    deep = [source for source in result.sources if len(result.layers(source)) > 1]
    for source in deep:
        entry = result.best(source)
        reporter.result(f"best layer of {source}: {entry.layer}, {percent(entry.mean)} ({_column(entry)})")
    if deep:
        reporter.note("note: these test images chose the best layer; expect a little less from it on others")
    reporter.result(learning_text(result.learning()))


def _column(probe: Probe) -> str:
    return f"all ({probe.images:.0f}) per class" if probe.shots == "all" else f"{probe.shots} per class"


def _cell(probe: Probe) -> str:
    spread = f" +- {100 * probe.sd:.1f}" if len(probe.accuracy) > 1 else ""
    return f"{100 * probe.mean:.1f}{spread}"


def _next(result: ProbeResult, data: list[str], reading: options.Reading, weights: list[str]) -> str:
    """Fit the best layer: of the codes file, or after an extraction."""
    best = result.best()
    if Path(data[0]).suffix.lower() in (".h5", ".hdf5") and not weights:
        return f"cnncodes fit-linear {shell(data[0])} --layer {best.layer} --normalize standard -o model.safetensors"
    named = "" if best.source == "imagenet" else f" --weights {shell(best.source)}"
    return f"cnncodes extract {options.words(data, reading)} -o codes.h5{named} --layers {best.layer}"
