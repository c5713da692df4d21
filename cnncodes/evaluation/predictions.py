"""One answer for each image: the best classes, scores beside labels as a run saves them, the verdicts, the worst first, and images
put into a folder for each class that a model named."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError
from cnncodes.core.files import cells, open_file, reading, reason_of
from cnncodes.core.outputs import replacing
from cnncodes.core.records import to_json
from cnncodes.core.words import visible
from cnncodes.evaluation.metrics import ranks
from cnncodes.evaluation.scores import NOT_FINITE, Data, Scores, is_codes, score
from cnncodes.heads.confidence import UNLIKE, log_softmax
from cnncodes.heads.linear_model import AnyModel, LinearModel, load_model
from cnncodes.images.catalog import Catalog, read_catalog
from cnncodes.images.readers import open_image

if TYPE_CHECKING:
    from cnncodes.evaluation.evaluating import EvaluationResult

HEADER = (
    "filename", "true", "predicted", "correct", "rank_true", "margin", "score_true", "score_predicted",
    "probability_true", "probability_predicted", "loss",
)  # fmt: skip
#: A model is unsure where its best class has less than this probability, or is less than so many times as probable as the second.
LEAST_PROBABILITY, LEAST_ODDS = 0.5, 2.0
LONGEST = 200  # bytes of a folder's name; file systems take 255


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model answered on labelled images."""

    rows: npt.NDArray[np.int64]  # [n], of the catalog
    names: tuple[str, ...]  # of the images, as the catalog has them
    labels: npt.NDArray[np.int64]  # [n], places in the classes
    scores: npt.NDArray[np.float64]  # [n, K]
    classes: tuple[str, ...]
    temperature: (
        float | None
    )  # softmax(scores / temperature) are the probabilities; None of an SVM that has none
    problems: Mapping[str, str] = field(default_factory=dict)  # images without scores, with the reason

    @classmethod
    def of(cls, result: EvaluationResult, rows: np.ndarray | None = None) -> Predictions:
        """The predictions of an evaluation; ``rows`` are those of the whole catalog, where the result's is a part of it."""
        catalog = result.scores.catalog
        return cls(
            result.rows if rows is None else rows[result.rows],
            tuple(catalog.names[row] for row in result.rows),
            result.labels,
            result.scores.values[result.rows],
            result.evaluation.classes,
            (result.calibration.temperature or 1.0) if result.calibration.of == "probabilities" else None,
            result.scores.problems,
        )

    @property
    def predicted(self) -> npt.NDArray[np.intp]:
        """Place of the best-scored class of each image; the first of equal ones."""
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def log_probabilities(self) -> npt.NDArray[np.float64] | None:
        """Logarithms of the probabilities ``[n, K]``; None where there are none."""
        return None if self.temperature is None else log_softmax(self.scores, self.temperature)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as HDF5, over an old file, whole or not at all.

        Datasets ``row``, ``name``, ``label``, ``score``, ``class``, ``problem/name`` and ``problem/reason``; attributes ``format``
        (1), ``odds`` (whether there are probabilities) and ``temperature``. Bytes of names that are not UTF-8 stay as they are.
        """
        text = h5py.string_dtype()
        with replacing(Path(path), overwrite=True) as whole, h5py.File(whole, "w") as file:
            file.attrs["format"], file.attrs["odds"] = 1, self.temperature is not None
            if self.temperature is not None:
                file.attrs["temperature"] = self.temperature
            for name, values in {"row": self.rows, "label": self.labels, "score": self.scores}.items():
                file.create_dataset(name, data=values)
            texts = {"name": self.names, "class": self.classes, "problem/name": self.problems}
            texts["problem/reason"] = tuple(self.problems.values())
            for name, words in texts.items():
                encoded = [word.encode("utf-8", "surrogateescape") for word in words]
                file.create_dataset(name, data=np.array(encoded, object), dtype=text, shape=(len(encoded),))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Inverse of :meth:`save`; raises CnnCodesError if the file is missing, damaged or no such file."""
        with reading(f"'{path}'"):
            open_file(path).close()
            with h5py.File(path, "r") as file:
                rows, labels = file["row"][:].astype(np.int64), file["label"][:].astype(np.int64)
                scores = file["score"][:].astype(np.float64)
                names, classes, bad, reasons = (
                    tuple(file[name].asstr(errors="surrogateescape")[:])
                    for name in ("name", "class", "problem/name", "problem/reason")
                )
                temperature = float(file.attrs.get("temperature", 1.0)) if file.attrs["odds"] else None
            n, K = len(names), len(classes)
            if not (rows.shape == labels.shape == (n,) and scores.shape == (n, K)):
                raise ValueError("its parts do not fit each other")
            if n and not (labels.min() >= 0 and labels.max() < K):
                raise ValueError("a label is none of the classes")
            if temperature is not None and not 0 < temperature < np.inf:
                raise ValueError("its temperature is not a positive number")
            problems = dict(zip(bad, reasons, strict=True))
        return cls(rows, names, labels, scores, classes, temperature, problems)


@dataclass(frozen=True)
class Verdict:
    """What a model says of one image."""

    name: str  # of the image, as the catalog has it
    true: str  # class
    predicted: str
    rank_true: int  # of the true class among all, 1 for the best score; of equal ones the earlier class is the better
    margin: float  # of the true class's score above the best other one: negative for a mistake, near 0 a close case
    score_true: float  # of an average of models, the logarithm of the probability
    score_predicted: float
    probability_true: float | None  # None of an SVM without probabilities
    probability_predicted: float | None
    loss: float | None  # -log(probability_true)

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.rank_true == 1


def verdicts(given: EvaluationResult | Predictions) -> list[Verdict]:
    """One verdict per evaluated image, the worst mistake first; of equal ones in the catalog's order.

    The worst has the largest loss or, without probabilities, the lowest margin.
    """
    answers = given if isinstance(given, Predictions) else Predictions.of(given)
    scores, labels, classes = answers.scores, answers.labels, answers.classes
    places, predicted = np.arange(len(labels)), answers.predicted
    own, rank, others = scores[places, labels], ranks(scores, labels), scores.copy()
    others[places, labels] = -np.inf
    margin = own - others.max(axis=1)
    logarithms = answers.log_probabilities
    badness = margin if logarithms is None else logarithms[places, labels]
    found = []
    for place in np.argsort(badness, kind="stable"):
        true, said = labels[place], predicted[place]
        odds: tuple[float, float, float] | tuple[None, None, None] = None, None, None
        if logarithms is not None:
            log_true, log_said = logarithms[place, [true, said]]
            odds = float(np.exp(log_true)), float(np.exp(log_said)), float(-log_true)
        numbers = int(rank[place]), float(margin[place]), float(own[place]), float(scores[place, said])
        found.append(Verdict(answers.names[place], classes[true], classes[said], *numbers, *odds))
    return found


def write_verdicts(
    given: EvaluationResult | Predictions, output: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write :func:`verdicts` as CSV (UTF-8, one line per image), whole or not at all; what a model does not have is empty.

    Bytes of a name that are not UTF-8 are written as ``\\xff``; a text that a spreadsheet would take for a formula begins with an apostrophe.

    Raises
    ------
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    CnnCodesError
        If it cannot be written.
    """
    path = Path(output)
    with (
        replacing(path, overwrite=overwrite, error=CnnCodesError) as whole,
        whole.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for verdict in verdicts(given):
            writer.writerow(cells(*_line(verdict)))
    return path


def _line(verdict: Verdict) -> tuple[object, ...]:
    name, true, predicted, rank, *numbers = dataclasses.astuple(verdict)
    return (
        visible(name), visible(true), visible(predicted), "yes" if verdict.correct else "no", rank,
        *("" if number is None else f"{number:.6g}" for number in numbers),
    )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first."""

    name: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()  # of these classes; the highest is the answer
    #: Calibrated on held-out images; None of an SVM for which none could be held out, and of earlier versions.
    probabilities: tuple[float, ...] | None = None
    problem: str | None = None  # why an image could not be read; then the rest is empty
    #: Whether the best class has a probability below 50 %, or less than twice that of the second; None without them.
    unsure: bool | None = None
    #: How many per cent of the training images are nearer to a class than this image, 0..100: see
    #: :class:`cnncodes.heads.Likeness`. None where the model does not know.
    percentile: float | None = None
    unlike: bool | None = None  # whether that is 99 or more: the answer may mean nothing

    def to_json(self) -> str:
        """JSON object with one entry per field."""
        return to_json(self)


def predict(model: AnyModel, data: Data, *, top: int = 5, **options: Any) -> list[Prediction]:
    """The most probable classes of each image, best first, in the order of the catalog.

    ``model`` is a loaded model, a model's file, a run's folder or weights; ``top`` is the number of classes; the other
    options are those of :func:`score`.

    Raises
    ------
    OptionError
        If ``top`` is not 1 or more.
    """
    model = _checked(model, top)
    if not isinstance(data, Catalog) and not is_codes(data):
        data = read_catalog(data, classes_are="none")  # nobody asks for the classes that the folders may be
    return predictions_of(model, score(model, data, **options), top)


def predictions_of(model: AnyModel, scores: Scores, top: int = 5) -> list[Prediction]:
    """Predictions from scores that are there; raises as :func:`predict`."""
    model = _checked(model, top)
    found = []
    temperature = model.head.scale
    for name, values, usual in zip(scores.catalog.names, scores.values, scores.percentiles, strict=True):
        if np.isnan(values).any():
            found.append(Prediction(name, problem=scores.problems.get(name, NOT_FINITE)))
            continue
        best = np.argsort(-values, kind="stable")[:top]
        odds = None if temperature is None else np.exp(log_softmax(values[None], temperature))[0]
        percentile = None if np.isnan(usual) else float(usual)
        answer = Prediction(
            name,
            tuple(model.classes[place] for place in best),
            tuple(values[best].tolist()),
            None if odds is None else tuple(odds[best].tolist()),
            unsure=None if odds is None else is_unsure(odds),
            percentile=percentile,
            unlike=None if percentile is None else percentile >= UNLIKE,
        )
        found.append(answer)
    return found


def is_unsure(probabilities: npt.NDArray[Any]) -> bool:
    """Whether the best of a row of probabilities ``[K]`` is low, or hardly higher than the second."""
    *_, second, best = (0.0, *np.sort(probabilities)[-2:])
    return bool(best < LEAST_PROBABILITY or best < LEAST_ODDS * second)


def _checked(model: AnyModel, top: int) -> LinearModel:
    if top < 1:
        raise OptionError(f"the {top} best classes cannot be given.", "Use 1 or more.")
    return load_model(model)


def check_sorted(folder: str | os.PathLike[str]) -> None:
    """Raise OutputExistsError unless :func:`sort_images` could write there: the folder is empty or can be made."""
    path = Path(folder)
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        raise OutputExistsError(
            f"'{path}' exists and is not an empty folder.", "Name a new folder with --sort-into."
        )
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' does not exist.", f"Make it: mkdir -p '{path.parent}'."
        )


def sort_images(
    predictions: Sequence[Prediction], catalog: Catalog, folder: str | os.PathLike[str], *, copy: bool = False
) -> dict[str, int]:
    """Put each image into a folder named after its predicted class.

    Images of which the model is unsure go to ``unsure``, those unlike the training images to ``unlike``, and those that
    could not be read to ``unreadable`` (with "images" after it where a class has the name).

    Parameters
    ----------
    predictions : sequence of Prediction
        One per row of ``catalog``, in its order.
    catalog : Catalog
        Where the images are.
    folder : path
        A new folder, or an empty one.
    copy : bool, default False
        Copies in place of symbolic links; members of a shard are always copied.

    Returns
    -------
    dict of str to int
        Images in each folder, by its name.

    Raises
    ------
    OutputExistsError
        If the folder is not empty, or something cannot be written.
    """
    check_sorted(folder)
    taken: Counter[str] = Counter()
    used: set[tuple[str, str]] = set()
    known = {name.casefold() for found in predictions for name in found.classes}
    try:
        for row, found in enumerate(predictions):
            group = _group(found, known)
            place = Path(folder) / group
            place.mkdir(parents=True, exist_ok=True)
            name = _free(Path(visible(catalog.names[row])).name, group, used)
            try:
                _put(catalog.reader[row], place / name, copy)
            except (OSError, ValueError):
                if found.problem is None:
                    raise
                continue  # there is nothing to put there; its reason is told with the predictions
            taken[group] += 1
    except (OSError, ValueError) as error:
        raise OutputExistsError(
            f"the images cannot be sorted into '{folder}': {reason_of(error)}.",
            "Check the folder and the free space; where links are not allowed, use --copy.",
        ) from error
    return dict(taken)


def _put(source: str, target: Path, copy: bool) -> None:
    if os.path.lexists(source) and not copy:
        target.symlink_to(Path(source).absolute())
    else:
        with open_image(source) as image:
            content = image.read()
        target.write_bytes(content)


def _group(found: Prediction, classes: set[str]) -> str:
    """Name of the folder that an image belongs in."""
    name = "unreadable" if found.problem is not None else "unlike" if found.unlike else "unsure"
    if found.problem is not None or found.unlike or found.unsure:
        return f"{name} images" if name in classes else name
    text = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in visible(found.classes[0]))
    return text.encode()[:LONGEST].decode(errors="ignore").strip(" .") or "_"


def _free(name: str, group: str, used: set[tuple[str, str]]) -> str:
    """The name, with a number where the folder has it already: two folders may have an image of the same name."""
    stem, suffix, number, free = Path(name).stem, Path(name).suffix, 1, name
    while (group, free.casefold()) in used:
        number += 1
        free = f"{stem}-{number}{suffix}"
    used.add((group, free.casefold()))
    return free
