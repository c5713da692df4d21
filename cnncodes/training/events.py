"""TensorBoard's event files: the curves of a run, as ``tensorboard --logdir RUN`` shows them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = "events"  # in a run's folder
#: Names in TensorBoard of the entries of an :class:`~cnncodes.training.Epoch`; one chart for each word before a slash.
TAGS = {
    "loss": "loss/train",
    "val_loss": "loss/val",
    "accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "learning_rate": "rate/learning_rate",
    "images_per_second": "speed/images_per_second",
}


class Events:
    """Scalars of each epoch, at the epoch's number as the step.

    Nothing is imported or written before the first epoch is there. What cannot be written stops no training: it is
    said once, and ``metrics.jsonl`` has the same numbers.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    note : callable(text), optional
        Told once if events cannot be written.
    """

    def __init__(self, folder: Path, note: Callable[[str], None] = lambda text: None) -> None:
        self._folder, self._note = folder, note
        self._writer: Any = None
        self._written = 0
        self._broken = False

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Add the last epoch of all so far; after a resume or a restart, all of them in place of what was there.

        Parameters
        ----------
        history : sequence of mappings
            Every :class:`~cnncodes.training.Epoch` so far as a mapping.
        """
        if self._broken or not history:
            return
        try:
            if self._writer is None or len(history) != self._written + 1:
                self._open(int(history[0]["epoch"]))
                self._written = 0
            now = time.time()
            for place in range(self._written, len(history)):
                later = sum(line["seconds"] for line in history[place + 1 :])
                self._add(history[place], now - later)
            self._written = len(history)
            self._writer.flush()
        except Exception as error:  # a full disk, a broken installation: never a reason to lose a training
            self._broken = True
            self._note(
                f"no event files for TensorBoard: {type(error).__name__}: {error}. "
                "metrics.jsonl has the same numbers."
            )

    def close(self) -> None:
        """Close the file; a later :meth:`write` begins a new one."""
        writer, self._writer = self._writer, None
        if writer is not None and not self._broken:
            writer.close()

    def _open(self, first: int) -> None:
        """A new file that takes back the steps of all earlier ones, so that no epoch is there twice."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that TensorBoard imports
            from torch.utils.tensorboard import SummaryWriter  # about a second: not before it is needed

        self.close()
        self._writer = SummaryWriter(str(self._folder), purge_step=first)

    def _add(self, line: Mapping[str, Any], moment: float) -> None:
        for name, tag in TAGS.items():
            if line.get(name) is not None:
                self._writer.add_scalar(tag, line[name], global_step=line["epoch"], walltime=moment)
