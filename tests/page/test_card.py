"""The model card: what a run found out, in Markdown in which names are names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from finished_runs import EVIL_CLASS, finished_run, tiny_network  # noqa: F401

from cnncodes.advice import RunReport
from cnncodes.cli import main
from cnncodes.core.errors import ModelError, OutputExistsError
from cnncodes.page import write_card
from cnncodes.page.html import markdown_source


def test_the_command_prints_one_document(made, capsys) -> None:
    _, folder = made
    assert main(["card", str(folder / "run"), "-o", str(folder / "printed.md"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(folder / "printed.md")}
    assert main(["card", str(folder / "run"), "-o", str(folder / "printed.md")]) == 1, "it is there"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_network) -> tuple[RunReport, Path]:  # noqa: F811
    folder = tmp_path_factory.mktemp("card")
    return finished_run(folder), folder


def test_the_card_has_the_figures_of_the_run(made) -> None:
    report, folder = made
    text = write_card(folder / "run", folder / "CARD.md").read_text(encoding="utf-8")
    found = report.evaluation
    assert f"{100 * found.top1:.1f} % of {found.n} test images" in text
    assert f"{100 * found.top1_low:.1f} % to {100 * found.top1_high:.1f} %" in text
    assert "expected calibration error" in text and report.recipe_text.strip() in text
    assert text.count("\n| bird |") == 2, "counts, and figures of the test"
    assert r"\<script\>alert('class')\</script\>" in text and EVIL_CLASS not in text
    with pytest.raises(OutputExistsError):
        write_card(folder / "run", folder / "CARD.md")
    with pytest.raises(ModelError):
        write_card(folder / "photos", folder / "OTHER.md")


def test_the_header_is_yaml_with_the_accuracy(made) -> None:
    yaml = pytest.importorskip("yaml")
    report, folder = made
    text = write_card(folder / "run", folder / "header.md").read_text(encoding="utf-8")
    header = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])
    (result,) = header["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": round(report.evaluation.top1, 4)}]
    assert header["license"] is None, "a person chooses it"


def test_signs_of_markdown_in_a_name_mean_nothing(made) -> None:
    report, _ = made
    wild = "a|b*c_[d](e)`f`\n# g"
    text = markdown_source(
        "card", title=wild, report=report, found=None, created="", command="x `` y\n```", classes=[],
        weights=wild, fingerprint="", versions="", calibration=None,
    )  # fmt: skip
    assert r"# a\|b\*c\_\[d\](e)\`f\`\\n\# g" in text
    assert "````console\nx `` y\n```\n````" in text
