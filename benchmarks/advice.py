"""Is the advised recipe the right one? Every recipe of CS231n's four is run on every data set, whole and cut.

    python benchmarks/advice.py --data sets/ --weights starter --shots 5,20,80 -o benchmarks/advice.jsonl

SETS has one folder per data set, each with a folder per class (or train and val folders); scikit-learn's digits are added. For each set
and number of training images per class: advice is asked, then all four recipes are run and tested on the same images, at most
--tests of them. The regret is the best accuracy minus the advised recipe's. Fine-tuning stops after --passes images, so that a CPU ends
it within minutes: with more, it would be better. Every result is a line of the output; the same command goes on
where it was interrupted. ``--table`` prints what is there, and what other values of the threshold that decides between
similar and different would have given, also when it is chosen on the other sets only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from cnncodes.advice import advise, load_recipe
from cnncodes.advice.decision import decide
from cnncodes.advice.demo_images import write_digits
from cnncodes.advice.evidence import Evidence
from cnncodes.advice.thresholds import load_thresholds
from cnncodes.codes import extract
from cnncodes.core.records import from_value
from cnncodes.evaluation import evaluate
from cnncodes.heads import fit_linear
from cnncodes.heads.linear_model import network_model
from cnncodes.images import SPLITS, Catalog, read_catalog
from cnncodes.training import finetune
from cnncodes.weights import Weights, load_weights

SWEPT = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
RECIPES = ("small-similar", "small-different", "large-similar", "large-different")
TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", help="names of folders in it; by default all")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--shots", default="5,20,80,all", help="training images per class")
    parser.add_argument("--tests", type=int, default=300)
    parser.add_argument(
        "--passes", type=int, default=3000, help="images that fine-tuning sees at most, over all epochs"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; existing ones are kept")
    parser.add_argument(
        "--recipes", default=",".join(RECIPES), help="such as few-shot, of which the tables say nothing"
    )
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    there = read(options.output)
    if not options.table:
        weights = load_weights(options.weights)
        with tempfile.TemporaryDirectory() as scratch:
            write_digits(Path(scratch) / "digits", each=178)
            names = (
                options.sets.split(",")
                if options.sets
                else sorted(p.name for p in options.data.iterdir() if p.is_dir())
            )
            folders = [options.data / name for name in names if name != "digits"] + [Path(scratch) / "digits"]
            for folder in folders:
                for shots in options.shots.split(","):
                    catalog = cut(read_catalog(folder), shots, options.tests)
                    for line in results(folder.name, shots, catalog, weights, options, there):
                        there.append(line)
                        with options.output.open("a") as file:
                            file.write(json.dumps(line) + "\n")
                        shown = {key: value for key, value in line.items() if key != "evidence"}
                        print(json.dumps(shown), flush=True)
    print(table(there))
    print(sweep(there))


def cut(catalog: Catalog, shots: str, tests: int) -> Catalog:
    """Training images cut to a number per class; the same test images for every number."""
    random = np.random.default_rng(0)
    splits = np.zeros(len(catalog), np.uint8)
    own = (catalog.splits == SPLITS.index("val")) | (catalog.splits == TEST)
    for label in range(len(catalog.classes)):
        rows = random.permutation(np.flatnonzero(catalog.labels == label))
        held = rows[own[rows]] if own.any() else rows[: len(rows) // 3]
        rest = np.setdiff1d(rows, held)
        splits[held[: max(1, tests // len(catalog.classes))]] = TEST
        chosen = random.permutation(rest)
        splits[chosen if shots == "all" else chosen[: int(shots)]] = TRAIN
    kept = splits > 0
    return dataclasses.replace(catalog, splits=splits).subset(kept)


def results(name, shots, catalog, weights: Weights, options, there):  # type: ignore[no-untyped-def]
    """What is not there yet: the advice, and each recipe's accuracy."""
    case = {"set": name, "shots": shots, "weights": weights.name}
    done = {line["what"] for line in there if all(line[key] == value for key, value in case.items())}
    train = int((catalog.splits == TRAIN).sum())
    if "advice" not in done:
        started = time.perf_counter()
        advice = advise(catalog, weights, device="cpu")
        yield case | {
            "what": "advice",
            "recipe": advice.recipe,
            "runner_up": advice.runner_up.recipe,
            "train": train,
            "seconds": time.perf_counter() - started,
            "evidence": json.loads(advice.to_json())["evidence"],
        }
    for recipe_name in options.recipes.split(","):
        if recipe_name in done:
            continue
        started = time.perf_counter()
        top1 = follow(recipe_name, catalog, weights, train, options.passes)
        yield case | {"what": recipe_name, "top1": top1, "seconds": time.perf_counter() - started}


def follow(name: str, catalog: Catalog, weights: Weights, train: int, passes: int) -> float:
    """Accuracy of a recipe on the test split."""
    recipe = load_recipe(name)
    with tempfile.TemporaryDirectory() as folder:
        if recipe.method == "linear":
            codes = Path(folder) / "codes.h5"
            extract(
                catalog,
                codes,
                weights,
                layers=recipe.extract.layers,
                crops=recipe.extract.crops,
                device="cpu",
            )
            head = recipe.head
            model = fit_linear(
                codes, layer=head.layer, kind=head.kind, C=head.C, normalisation=head.normalize
            ).model
            return evaluate(model, codes, split="test").evaluation.top1
        epochs = int(np.clip(passes // train, 4, recipe.training_settings().epochs))
        settings = recipe.training_settings(epochs=epochs, batch_size=min(32, max(8, train // 4)))
        result = finetune(watched_inside(catalog), weights, Path(folder) / "run", settings, device="cpu")
        tuned = load_weights(str(result.model))
        model = network_model(tuned)
        rows = np.flatnonzero(catalog.splits == TEST)
        return evaluate(model, catalog.subset(rows), split="all", weights=tuned, device="cpu").evaluation.top1


def watched_inside(catalog: Catalog) -> Catalog:
    """The training images alone: a fifth of them is watched, so that nothing is chosen on test images."""
    train = catalog.subset(catalog.splits == TRAIN)
    return dataclasses.replace(train, splits=np.zeros(len(train), np.uint8))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(lines: list[dict]) -> str:
    """One row per case, and the regret."""
    rows = [
        "| set | images per class | "
        + " | ".join(RECIPES)
        + " | advised | regret, points | time, part of all |"
    ]
    rows.append("| --- | ---: |" + " ---: |" * len(RECIPES) + " --- | ---: | ---: |")
    regrets, times = [], []
    for (name, shots, _), found in cases_of(lines).items():
        accuracy = {recipe: found[recipe]["top1"] for recipe in RECIPES}
        advised = found["advice"]["recipe"]
        regret = 100 * (max(accuracy.values()) - accuracy[advised])
        part = (found["advice"]["seconds"] + found[advised]["seconds"]) / sum(
            found[r]["seconds"] for r in RECIPES
        )
        regrets.append(regret)
        times.append(part)
        cells = " | ".join(f"{100 * value:.1f}" for value in accuracy.values())
        rows.append(f"| {name} | {shots} | {cells} | {advised} | {regret:.1f} | {part:.2f} |")
    if regrets:
        rows.append(
            f"\n{len(regrets)} cases: regret {np.mean(regrets):.1f} points on average, {max(regrets):.1f} at worst; "
            f"advice and its recipe take {np.mean(times):.2f} of the time of all recipes on average."
        )
    return "\n".join(rows)


def cases_of(lines: list[dict]) -> dict[tuple[str, str, str], dict[str, dict]]:
    """Results of each case that has all of them."""
    cases: dict[tuple[str, str, str], dict[str, dict]] = {}
    for line in lines:
        cases.setdefault((line["set"], line["shots"], line["weights"]), {})[line["what"]] = line
    return {case: found for case, found in cases.items() if {"advice", *RECIPES} <= set(found)}


def sweep(lines: list[dict]) -> str:
    """Regret by ``similar_standard_errors``, and where each set's value is chosen on the other sets."""
    cases = cases_of(lines)
    regret: dict[float, dict[tuple[str, str, str], float]] = {value: {} for value in SWEPT}
    for value in SWEPT:
        numbers = dataclasses.replace(
            load_thresholds(), similar_standard_errors=value, few_shot_per_class=0.5
        )
        for case, found in cases.items():
            recipe = decide(from_value(found["advice"]["evidence"], Evidence), numbers).recipe
            best = max(found[name]["top1"] for name in RECIPES)
            regret[value][case] = 100 * (best - found[recipe]["top1"])
    rows = ["\n| similar_standard_errors | regret, points | at worst |", "| ---: | ---: | ---: |"]
    rows += [_row(f"{value:g}", list(regret[value].values())) for value in SWEPT]
    apart = []
    for name in {case[0] for case in cases}:
        others = {value: sum(r for case, r in regret[value].items() if case[0] != name) for value in SWEPT}
        chosen = min(SWEPT, key=lambda value: round(others[value], 6))
        apart += [r for case, r in regret[chosen].items() if case[0] == name]
    rows.append(_row("chosen on the other sets", apart))
    for recipe in RECIPES:
        best = [max(f[name]["top1"] for name in RECIPES) - f[recipe]["top1"] for f in cases.values()]
        rows.append(_row(f"always {recipe}", [100 * value for value in best]))
    return "\n".join(rows) if cases else ""


def _row(name: str, regrets: list[float]) -> str:
    return f"| {name} | {np.mean(regrets):.2f} | {max(regrets):.1f} |"


if __name__ == "__main__":
    main()
