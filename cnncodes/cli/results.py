"""How an evaluation is printed: by `fit-linear` and by `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnncodes.cli.console import Reporter, one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.evaluation import EvaluationResult

MOST_CLASSES = 40  # lines of the table per class on the screen; --json has all


def fit_command(codes: str, stages: tuple[str, ...]) -> str:
    """The command that fits a head to a codes file with these layers."""
    layer = "" if "fc7" in stages else f" --layer {stages[0]}" if len(stages) == 1 else " --layer auto"
    return f"cnncodes fit-linear {shell(codes)}{layer} -o model.safetensors"


def print_evaluation(reporter: Reporter, result: EvaluationResult) -> None:
    """Accuracies, figures per class, and the confusions that matter."""
    found = result.evaluation
    rows = [
        (figures.name, figures.support, percent(figures.precision), percent(figures.recall))
        for figures in sorted(
            found.per_class, key=lambda figures: figures.recall if figures.recall is not None else 2
        )
    ]
    title = f"tested on {result.how}"
    if len(rows) > MOST_CLASSES:
        title += f"; the {MOST_CLASSES} worst classes of {len(rows)}"
    reporter.table(title, ("class", "images", "precision", "recall"), rows[:MOST_CLASSES])
    top5 = f", top-5 {percent(found.top5)}" if found.top5 is not None else ""
    reporter.result(
        f"top-1 {percent(found.top1)} (95 % interval {100 * found.top1_low:.1f} to {100 * found.top1_high:.1f})"
        f"{top5}, mean per class {percent(found.mean_per_class)}; always the largest class: {percent(found.majority)}"
    )
    for pair in found.worst_confusions(5):
        reporter.result(
            f"  {one_line(pair.true)} taken for {one_line(pair.predicted)}: "
            f"{pair.count} ({percent(pair.share)} of {one_line(pair.true)})"
        )
    if result.seen:
        which = "these very images" if result.all_seen else f"{result.seen:,} of these {found.n:,} images"
        reporter.warn(f"the model was fitted on {which}: the figures say little about new ones")
