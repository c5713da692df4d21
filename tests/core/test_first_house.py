"""Files that an old version wrote are read: nobody's codes, models and runs are lost by an update. See first_house/make.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cnncodes.advice import Advice, RunReport, load_recipe
from cnncodes.advice.probe_result import ProbeResult
from cnncodes.advice.run_folder import read_records, read_split
from cnncodes.cli import main
from cnncodes.codes import CodesFile
from cnncodes.heads import load_model

HOME = Path(__file__).parents[1] / "first_house"
RUN = HOME / "run"


def test_a_run_its_advice_split_and_recipe() -> None:
    report, note = read_records(RUN)
    assert (report.recipe, report.stage, report.images, report.untrained) == (
        "small-similar",
        "fc6",
        16,
        True,
    )
    assert report.evaluation is not None and report.evaluation.top1 == 1.0
    assert [finding.kind for finding in report.problems] == ["classes", "few"] and len(report.reasons) == 3
    assert report.advice == Advice.from_json((RUN / "advice.json").read_text())
    assert RunReport.from_json(report.to_json()) == report
    assert note["seconds"] and len(read_split(RUN / "split.csv")) == 16
    assert load_recipe(RUN / "recipe.toml").to_toml() == report.recipe_text


def test_codes_a_model_and_a_probe() -> None:
    with CodesFile(HOME / "codes.h5") as codes:
        assert codes.stages == ("fc8",) and len(codes) == 16 and list(codes.problems()) == ["blue/4.png"]
        assert codes.read("fc8", [0]).shape == (1, 1000)
    model = load_model(RUN / "model.safetensors")
    assert model.classes == ("blue", "green", "red") and model.stage == "fc6"
    probe = ProbeResult.from_json((HOME / "probe.json").read_text())
    assert probe.best().layer == "fc6" and ProbeResult.from_json(probe.to_json()) == probe


@pytest.mark.parametrize("command", ["report", "info"])
def test_commands_read_them(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    target = tmp_path / "run" if command == "report" else HOME / "codes.h5"
    assert main([command, str(target)]) in (0, 3), capsys.readouterr().err
