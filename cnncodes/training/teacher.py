"""A teacher: another network, or its stored features, whose answers are imitated (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.codes.compute import Device
from cnncodes.codes.features import read_features
from cnncodes.core.errors import OptionError
from cnncodes.images.catalog import Catalog
from cnncodes.training.settings import TeacherSettings

SAMPLE = 64  # side in pixels of the picture by which the shapes of a program's answers are found


@dataclass(frozen=True, eq=False)
class Answers:
    """What a teacher says of a batch: ``features`` [batch, D], ``logits`` [batch, K] or None."""

    features: Tensor
    logits: Tensor | None

    def mixed(self, mix: Tensor) -> Answers:
        """Answers for pairs of images, each with the one before it in the batch, in parts ``mix`` [batch]."""
        part = mix[:, None]
        features = part * self.features + (1 - part) * self.features.roll(1, 0)
        if self.logits is None:
            return Answers(features, None)
        odds = self.logits.softmax(1)
        return Answers(features, (part * odds + (1 - part) * odds.roll(1, 0)).clamp_min(1e-12).log())


class ProgramTeacher:
    """A TorchScript or ``torch.export`` file that sees the same views as the network that learns.

    Raises OptionError if it is not trusted, cannot be read, or does not give ``(features, logits)``.
    """

    classes: tuple[str, ...] | None = None

    def __init__(self, settings: TeacherSettings, device: Device, half: bool = False) -> None:
        self._side, self._device = settings.input_size, device
        self._program = _load_program(Path(settings.program), device, settings.trusted)
        self._half = half and device.is_cuda
        side = self._side or SAMPLE
        with torch.no_grad(), self._autocast():
            answer = self._program(torch.zeros(2, 3, side, side, device=device.torch_name))
        if not (
            isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(a, Tensor) for a in answer)
        ):
            raise OptionError(
                f"the teacher '{settings.program}' does not give (features, logits).",
                "Save a program that maps float32 [batch, 3, height, width] in [0, 1] to two tensors.",
            )
        self.feature_length: int = answer[0].shape[1]
        self.logits: int = answer[1].shape[1]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.torch_name.partition(":")[0], torch.float16, enabled=self._half)

    def __call__(self, rows: Sequence[int], views: Tensor, mix: Tensor | None = None) -> Answers:
        """Answers to views ``[batch, 3, side, side]``, RGB in [0, 1], whether they are mixed or not."""
        if self._side and views.shape[2] != self._side:
            views = F.interpolate(views, (self._side, self._side), mode="bilinear", antialias=True)
        with torch.no_grad(), self._autocast():
            views = views.contiguous(memory_format=torch.channels_last)
            features, logits = self._program(views)
        return Answers(features.float(), logits.float())


class StoredTeacher:
    """Features computed elsewhere from whole images, whatever the view."""

    def __init__(self, settings: TeacherSettings, catalog: Catalog, device: Device) -> None:
        found = read_features(settings.codes, catalog)
        self.classes = found.classes
        self._values = torch.from_numpy(found.values).to(device.torch_name)
        self._last = None
        if found.weight is not None and found.bias is not None:
            self._last = (
                torch.from_numpy(found.weight).to(device.torch_name),
                torch.from_numpy(found.bias).to(device.torch_name),
            )
        elif settings.logits:
            raise OptionError(
                f"the teacher '{settings.codes}' has features and no logits.",
                "Set teacher.logits = 0, so that features alone are imitated.",
            )
        self.feature_length: int = self._values.shape[1]
        self.logits: int = len(self._last[1]) if self._last else 0

    def __call__(self, rows: Sequence[int], views: Tensor, mix: Tensor | None = None) -> Answers:
        """Stored answers of these rows of the catalog, mixed as their views are in parts ``mix`` [batch]."""
        features = self._values[torch.as_tensor(list(rows), device=self._values.device)].float()
        answers = Answers(features, F.linear(features, *self._last) if self._last else None)
        return answers if mix is None else answers.mixed(mix)


class BothTeachers:
    """The mean of what a program says of a view and of what is stored for the whole image.

    The stored answers may come from larger originals than the views are cut from.
    """

    def __init__(self, program: ProgramTeacher, stored: StoredTeacher) -> None:
        if (program.feature_length, program.logits) != (stored.feature_length, stored.logits):
            raise OptionError(
                f"the two teachers differ: {program.feature_length} and {stored.feature_length} features, "
                f"{program.logits} and {stored.logits} logits.",
                "Name answers of the same network in teacher.program and teacher.codes, or only one of them.",
            )
        self._program, self._stored = program, stored
        self.classes, self.feature_length, self.logits = stored.classes, stored.feature_length, stored.logits

    def __call__(self, rows: Sequence[int], views: Tensor, mix: Tensor | None = None) -> Answers:
        """Means of features and of logits."""
        a, b = self._program(rows, views), self._stored(rows, views, mix)
        logits = (a.logits + b.logits) / 2 if a.logits is not None and b.logits is not None else None
        return Answers((a.features + b.features) / 2, logits)


Teacher = ProgramTeacher | StoredTeacher | BothTeachers


def load_teacher(settings: TeacherSettings, catalog: Catalog, device: Device, half: bool = False) -> Teacher:
    """The teacher of some settings; ``half`` lets a program on a GPU answer in float16.

    Raises OptionError if they name none, or it cannot be used.
    """
    if not settings.program and not settings.codes:
        raise OptionError(
            "the teacher is not named.",
            "Set teacher.program = 'teacher.ts' (sees every view), teacher.codes = 'teacher.h5' (whole images) or both.",
        )
    stored = StoredTeacher(settings, catalog, device) if settings.codes else None
    program = ProgramTeacher(settings, device, half) if settings.program else None
    if program is not None and stored is not None:
        return BothTeachers(program, stored)
    found = program or stored
    assert found is not None
    return found


def _load_program(path: Path, device: Device, trusted: bool) -> Any:
    """A program as a function.

    A program can do what its author wants: TorchScript can read and write any file (``torch.from_file``, ``torch.save``), and
    reading a ``torch.export`` file can run Python code. So a person must say that it is trusted.
    """
    if not path.is_file():
        raise OptionError(f"the teacher '{path}' is not there.", "Name a TorchScript or torch.export file.")
    if not trusted:
        raise OptionError(
            f"the teacher '{path}' is a program, which can read and write any of your files.",
            "Set teacher.trusted = true if you know where it comes from, or use stored features instead (teacher.codes).",
        )
    try:
        names = zipfile.ZipFile(path).namelist()
        if any(name.endswith(".pkl") and "/code/" not in name for name in names) and any(
            "/code/" in name for name in names
        ):
            with (
                warnings.catch_warnings()
            ):  # "deprecated" is nothing that the person who has the file can mend
                warnings.simplefilter("ignore")
                program: Any = torch.jit.load(str(path), map_location=device.torch_name)  # type: ignore[no-untyped-call]
            program.eval()
        else:
            program = torch.export.load(path).module().to(device.torch_name)
    except Exception as error:
        raise OptionError(
            f"the teacher '{path}' cannot be read: {str(error).splitlines()[0]}.",
            "Save it with torch.jit.save or torch.export.save.",
        ) from error
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    return program


def feature_scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation ``[D]`` by which features are standardised; constant ones are left at 1."""
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > 1e-6, deviation, 1.0)
