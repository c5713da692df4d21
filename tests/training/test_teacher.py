"""A teacher: what it is given, what is imitated, and what is said when it cannot be used."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cnncodes.codes.compute import choose_device
from cnncodes.core.errors import CodesFileError, HeadError, OptionError
from cnncodes.training import TeacherSettings, TrainingSettings, train
from cnncodes.training.objective import Objective, Targets, mixed_views, soft_loss
from cnncodes.training.task import choose_task
from cnncodes.training.teacher import Answers, ProgramTeacher, StoredTeacher, load_teacher
from cnncodes.weights import load_weights

SETTINGS = TrainingSettings(
    epochs=15,
    batch_size=8,
    learning_rate=0.003,
    middle_rate=1.0,
    early_rate=1.0,
    dropout=0.0,
    optimizer="adamw",
)


class Stripes(nn.Module):
    """Features: mean differences along, across and between; three logits that tell the stripes apart."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        grey = pixels.mean(1)
        along = (grey[:, :, 4:] - grey[:, :, :-4]).abs().mean((1, 2))
        across = (grey[:, 4:] - grey[:, :-4]).abs().mean((1, 2))
        features = torch.stack([across, along, across * along * 4, along - across], 1)
        logits = 20 * torch.stack([across - along, along - across, torch.minimum(across, along) - 0.15], 1)
        return features, logits


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Stripes()), str(path))
    return path


@pytest.fixture
def stored(tmp_path, stripes, program) -> Path:
    path = tmp_path / "teacher.h5"
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        order = random.permutation(len(stripes))  # names decide, not places
        file["images/name"] = [stripes.names[row] for row in order]
        values = np.eye(3)[stripes.labels[order]] * 3 + 0.1
        dataset = file.create_dataset(
            "layers/features", data=np.round(255 * np.sqrt(values / 6)).astype(np.uint8)
        )
        dataset.attrs["largest"] = 6.0
        file["logits/weight"] = np.eye(3, dtype=np.float32) * 2
        file["logits/bias"] = np.zeros(3, np.float32)
        file["classes"] = ["a", "b", "c"]
    return path


def test_a_network_learns_from_a_teacher_without_labels(network, pixels, stripes, tmp_path, program):
    unlabelled = dataclasses.replace(stripes, labels=np.full(len(stripes), -1, np.int32))
    settings = dataclasses.replace(SETTINGS, teacher=TeacherSettings(program=str(program), trusted=True))
    result = train(unlabelled, network, pixels, tmp_path / "run", settings)
    assert (
        result.epochs[-1].val_accuracy > 0.8 > result.epochs[0].val_accuracy + 0.1
    )  # agrees with the teacher
    assert load_weights(str(result.model)).classes == ("0", "1", "2")


def test_without_labels_no_test_image_is_watched_or_learned_from(stripes, program):
    splits = np.where(np.arange(len(stripes)) % 5 < 2, 3, 1).astype(np.uint8)  # no val: a share is drawn
    catalog = dataclasses.replace(stripes, splits=splits)
    asked = TeacherSettings(program=str(program), trusted=True)
    teacher = load_teacher(asked, catalog, choose_device("cpu"))
    for rule in ("auto", 0.5, 1.0 / len(stripes)):
        split = choose_task(catalog, dataclasses.replace(SETTINGS, teacher=asked), rule, teacher).split
        assert len(split.choose) and (splits[split.choose] == 1).all(), rule
        assert sorted([*split.train, *split.choose]) == np.flatnonzero(splits == 1).tolist()
    tested = dataclasses.replace(catalog, splits=np.full(len(catalog), 3, np.uint8))
    with pytest.raises(HeadError, match="none is left to learn from"):
        choose_task(tested, dataclasses.replace(SETTINGS, teacher=asked), "auto", teacher)


class Writer(nn.Module):
    """Writes a file when it answers: TorchScript may."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        written = torch.from_file(self.path, shared=True, size=1).fill_(1.0)
        return pixels.mean((2, 3)) * written, pixels.mean((2, 3))


def test_a_program_that_is_not_trusted_is_not_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Writer(str(tmp_path / "written"))), str(tmp_path / "writer.ts"))
    asked = TeacherSettings(program=str(tmp_path / "writer.ts"))
    with pytest.raises(OptionError, match="can read and write any") as caught:
        ProgramTeacher(asked, choose_device("cpu"))
    assert "teacher.trusted = true" in caught.value.remedy
    assert not (tmp_path / "written").exists()
    ProgramTeacher(dataclasses.replace(asked, trusted=True), choose_device("cpu"))
    assert (tmp_path / "written").exists(), "the file is what it claims to be"


def test_stored_answers_are_found_by_name(network, pixels, stripes, tmp_path, stored):
    teacher = StoredTeacher(TeacherSettings(codes=str(stored)), stripes, choose_device("cpu"))
    answers = teacher([3, 0], torch.zeros(2, 3, 8, 8))
    assert answers.logits.argmax(1).tolist() == stripes.labels[[3, 0]].tolist()
    assert answers.features[0, stripes.labels[3]].item() == pytest.approx(3.1, rel=0.02)
    settings = dataclasses.replace(SETTINGS, teacher=TeacherSettings(codes=str(stored), labels=1.0))
    result = train(stripes, network, pixels, tmp_path / "run", settings)
    assert (
        load_weights(str(result.model)).classes == stripes.classes
    )  # labels beside the teacher keep their head
    assert result.epochs[-1].val_loss < result.epochs[0].val_loss


def test_a_teacher_sees_the_view_that_is_learned_from_as_rgb_in_0_to_1(
    network, pixels, stripes, tmp_path, monkeypatch, program
):
    seen = []
    original = ProgramTeacher.__call__

    def watched(self, rows, views, mix=None):
        seen.append((views.shape, views.min().item(), views.max().item()))
        return original(self, rows, views, mix)

    monkeypatch.setattr(ProgramTeacher, "__call__", watched)
    settings = dataclasses.replace(
        SETTINGS, epochs=1, crop_area=0.5, teacher=TeacherSettings(program=str(program), trusted=True)
    )
    train(stripes, network, pixels, tmp_path / "run", settings)
    assert all(
        shape[1:] in ((3, 32, 32), (3, 36, 36)) and low >= 0 and 0.5 < high <= 1 for shape, low, high in seen
    )


def test_soft_loss_is_the_divergence_scaled_by_the_square_of_the_temperature():
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, 5, generator=random), torch.randn(4, 5, generator=random)
    p, q = (b / 3).softmax(1), (a / 3).softmax(1)
    torch.testing.assert_close(soft_loss(a, b, 3.0), 9 * (p * (p / q).log()).sum(1))
    assert soft_loss(a, a, 2.0).abs().max() < 1e-6


def test_mixed_images_have_mixed_labels():
    views = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    mixed = mixed_views(views, [1.0, 0.75, 0.5])[:, 0, 0, 0]
    assert mixed.tolist() == [0.0, 0.75, 1.5]
    logits = torch.log_softmax(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), 1)
    targets = Targets(torch.tensor([0, 1, 2]), mix=torch.tensor([1.0, 0.75, 0.5]))
    loss = Objective(TrainingSettings())(None, logits, logits, targets)  # type: ignore[arg-type]
    assert loss[1].item() == pytest.approx(-(0.75 * logits[1, 1] + 0.25 * logits[1, 0]).item())
    answers = Answers(torch.eye(3), torch.eye(3) * 5).mixed(torch.tensor([1.0, 0.75, 0.5]))
    assert answers.features[1].tolist() == [0.25, 0.75, 0.0]
    torch.testing.assert_close(answers.logits.softmax(1).sum(1), torch.ones(3))


def test_teachers_that_cannot_be_used_are_refused_with_the_reason(stripes, tmp_path, stored, program):
    cpu = choose_device("cpu")
    with pytest.raises(OptionError, match="not named"):
        load_teacher(TeacherSettings(), stripes, cpu)
    with pytest.raises(OptionError, match="4 and 3 features"):
        load_teacher(TeacherSettings(program=str(program), codes=str(stored), trusted=True), stripes, cpu)
    with pytest.raises(OptionError, match="not there"):
        load_teacher(TeacherSettings(program=str(tmp_path / "none.ts")), stripes, cpu)
    (tmp_path / "text.ts").write_text("no program")
    with pytest.raises(OptionError, match="cannot be read"):
        load_teacher(TeacherSettings(program=str(tmp_path / "text.ts"), trusted=True), stripes, cpu)
    other = dataclasses.replace(stripes, names=tuple(f"x/{name}" for name in stripes.names))
    with pytest.raises(CodesFileError, match=f"{len(other)} of {len(other)} images, such as 'x/"):
        load_teacher(TeacherSettings(codes=str(stored)), other, cpu)
    with h5py.File(stored, "a") as file:
        del file["logits"]
    with pytest.raises(OptionError, match="no logits"):
        load_teacher(TeacherSettings(codes=str(stored)), stripes, cpu)


def test_two_teachers_answer_with_their_mean(stripes, tmp_path, stored):
    class Constant(nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            return torch.ones(len(pixels), 3), torch.zeros(len(pixels), 3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Constant()), str(tmp_path / "constant.ts"))
    settings = TeacherSettings(program=str(tmp_path / "constant.ts"), codes=str(stored), trusted=True)
    both = load_teacher(settings, stripes, choose_device("cpu"))([4], torch.zeros(1, 3, 8, 8))
    alone = load_teacher(TeacherSettings(codes=str(stored)), stripes, choose_device("cpu"))(
        [4], torch.zeros(1, 3, 8, 8)
    )
    torch.testing.assert_close(both.features, (alone.features + 1) / 2)
    torch.testing.assert_close(both.logits, alone.logits / 2)


@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_teaches_as_well(tmp_path):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, pixels):
            features = pixels.mean((2, 3))
            return features, self.layer(features)

    batch = torch.export.Dim("batch", min=1)
    side = torch.export.Dim("side", min=2)
    whole = torch.export.export(
        Plain(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch, 2: side, 3: side},)
    )
    torch.export.save(whole, tmp_path / "teacher.pt2")
    with pytest.raises(OptionError, match="is a program"):
        ProgramTeacher(TeacherSettings(program=str(tmp_path / "teacher.pt2")), choose_device("cpu"))
    settings = TeacherSettings(program=str(tmp_path / "teacher.pt2"), trusted=True)
    teacher = ProgramTeacher(settings, choose_device("cpu"))
    assert (teacher.feature_length, teacher.logits) == (3, 4)
    assert teacher([0], torch.ones(1, 3, 8, 8)).features.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("more", "teacher", "said"),
    [
        ({}, {"logits": 0.0}, "features alone"),
        ({"class_weight": "balanced"}, {}, "need labels"),
    ],
)
def test_settings_that_a_teacher_leaves_no_sense_to_are_refused(
    network, pixels, stripes, tmp_path, stored, more, teacher, said
):
    settings = dataclasses.replace(SETTINGS, teacher=TeacherSettings(codes=str(stored), **teacher), **more)
    with pytest.raises(OptionError, match=said):
        train(stripes, network, pixels, tmp_path / "run", settings)
