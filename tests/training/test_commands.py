"""The commands: fine-tune, stop and resume, and use the result as weights and as a model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cnncodes.cli import main
from cnncodes.cli.arguments import Reading
from cnncodes.cli.console import Reporter
from cnncodes.cli.training import read_sets
from cnncodes.images import normalise
from cnncodes.weights import Preprocessing, build_network, load_weights

QUICK = ["--batch-size", "8", "--set", "train.mirror=false", "--set", "train.learning_rate=0.02"]


def test_a_fine_tuned_network_is_a_model_and_weights(trained, stripes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = str(stripes.root)
    command = ["finetune", data, "-o", "run", "--weights", trained, "--freeze", "conv1", "--epochs", "12"]
    assert main([*command, *QUICK, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"]["val_accuracy"] > 0.9 and document["classes"] == ["across", "along", "checkered"]
    model = "run/model.safetensors"
    assert main(["predict", model, f"{data}/val/along/0.png", "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)
    assert prediction["classes"][0] == "along" and sum(prediction["probabilities"]) == pytest.approx(1)
    assert main(["evaluate", model, data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == document["test"]["accuracy"]
    assert main(["extract", data, "-o", "codes.h5", "--weights", model, "--layers", "fc6"]) == 0
    assert main(["fit-linear", "codes.h5", "--layer", "fc6", "-o", "linear.safetensors"]) == 0
    assert main(["finetune", data, "-o", "again", "--weights", model, "--keep-head", "--epochs", "1"]) == 0
    assert "kept: epoch 1" in capsys.readouterr().out


def test_all_of_a_photograph_is_learned_from_and_predicted_with(trained, photo_folder, tmp_path, capsys):
    photos, run = photo_folder(10, classes=("ant", "bee"), width=90, height=40), tmp_path / "run"
    command = ["finetune", str(photos), "-o", str(run), "--weights", trained, "--fit", "pad", "--epochs", "1"]
    assert main([*command, *QUICK]) == 0
    weights = load_weights(run / "model.safetensors")
    assert weights.preprocessing == Preprocessing(fit="pad", resize=32, crop=32)
    (image, *_) = sorted(photos.rglob("*.jpg"))
    with Image.open(image) as opened:
        square = ImageOps.pad(opened, (32, 32), Image.Resampling.BILINEAR, color=(124, 116, 104))
    pixels = torch.from_numpy(normalise(np.asarray(square)[None], weights.preprocessing))
    capsys.readouterr()
    assert main(["predict", str(run / "model.safetensors"), str(image), "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)
    scale = weights.evidence.get("temperature") or 1.0
    expected = (build_network(weights)(pixels) / scale).softmax(1)[0].tolist()
    found = dict(zip(prediction["classes"], prediction["probabilities"], strict=True))
    assert [found[name] for name in weights.classes] == pytest.approx(expected, abs=1e-4)


def test_a_run_is_kept_and_resumed(trained, stripes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["finetune", str(stripes.root), "-o", "run", "--weights", trained, "--epochs", "2", *QUICK]
    assert main(command) == 0
    first, notes = capsys.readouterr()
    assert notes.startswith(stripes.describe()) and "along" in notes.partition("\n")[0]
    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--quiet"]) == 0  # nothing is left to do: the same table
    again = capsys.readouterr()
    assert again.out == first and not again.err


def test_what_is_computed_once_is_said(trained, stripes, tmp_path, capsys):
    command = ["finetune", str(stripes.root), "-o", str(tmp_path / "run"), "--weights", trained, *QUICK]
    views = ["--epochs", "1", "--freeze", "conv1-2", "--set", "train.cached_views=1"]
    assert main([*command, *views]) == 0
    assert "for 1 view of each image" in capsys.readouterr().err


def test_images_that_cannot_be_read_are_not_counted_as_learned_from(network, stripes, tmp_path, capsys):
    data = shutil.copytree(stripes.root, tmp_path / "data")
    (data / "train" / "along" / "0.png").write_bytes(b"no image")
    (data / "val" / "across" / "1.png").write_bytes(b"")
    command = ["train", str(data), "-o", str(tmp_path / "run"), "--model", network.name, "--epochs", "1"]
    assert main([*command, *QUICK, "--json"]) == 3
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["images"] + document["watched"] == 47 and document["test"]["images"] == 17
    assert len(document["unreadable"]) == 2
    said = f"{document['images']} images were used for training and {document['watched']} for validation"
    assert said in shown.err


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--set", "train.rate=1"], "learning_rate"),
        (["--set", "train.mirror=perhaps"], "true or false"),
        (["--set", "train.epochs=many"], "a whole number"),
        (["--freeze", "all"], "leaves no stage"),
        (["--freeze", "conv9"], "conv"),
        (["--split", "half"], "--split 0.2"),
    ],
)
def test_what_cannot_be_trained_is_said(trained, stripes, tmp_path, capsys, monkeypatch, extra, said):
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", str(stripes.root), "-o", "run", "--weights", trained, *extra]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_tables_and_folders_are_joined_and_each_is_read_as_it_is_said(stripes, tmp_path, capsys):
    rows = [f"{name},{name.split('/')[1]}" for name in stripes.names if "/across/" in name]
    (tmp_path / "more.csv").write_text("\n".join(["photo,kind", *rows]))
    shutil.copytree(stripes.root, tmp_path / "folder")
    columns = Reading(root=str(stripes.root), path_column="photo", label_column="kind")
    read = read_sets(Reporter(), [str(tmp_path / "folder")], [str(tmp_path / "more.csv")], columns)
    assert capsys.readouterr().err.endswith(read.describe() + "\n")
    assert read.counts()[read.classes.index("across")].sum() == 2 * len(rows)
