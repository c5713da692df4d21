"""What a run leaves: the report, and the note of how it was started, by which it is known again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.advice.decision import Advice
from cnncodes.advice.facts import Fact, Finding, upgraded
from cnncodes.advice.recipe import KEPT
from cnncodes.advice.sentences import finding_value, note_value, reason_value
from cnncodes.codes.file import Provenance
from cnncodes.core.compute import Compute, Progress, no_progress
from cnncodes.core.errors import CnnCodesError, OptionError, OutputExistsError, ResumeError
from cnncodes.core.files import parse_json, parse_toml, read_json, read_text, reading
from cnncodes.core.outputs import locked, partials, remove_partials, replacing, write_whole
from cnncodes.core.records import from_value, to_value
from cnncodes.evaluation import Evaluation
from cnncodes.heads.splits import HELD_OUT
from cnncodes.images.catalog import Catalog
from cnncodes.images.digests import catalog_digests

if TYPE_CHECKING:
    from cnncodes.advice.division import Division
    from cnncodes.weights import Weights

KIND = "cnncodes run"
NOTE = "run.json"
SPLIT, ADVICE, MODEL, REPORT = "split.csv", "advice.json", "model.safetensors", "report.json"
TRAINING = "training"  # a folder
TRAINED = ("finetune", "train")  # methods that leave it
CODES = "codes.h5"  # of the last stages; LAYERS where a recipe wants others
LAYERS = "layers.h5"
PREDICTIONS = "predictions.h5"  # of the test images
PAGE = "report.html"
TRY = "try"  # a folder of other recipes' runs, and their comparison:
RECORD, TABLE, SETTINGS = "compare.json", "compare.csv", "settings.json"
BEFORE = "before-"  # of names: what a run had before its images changed, until it has a new result
ASIDE = (REPORT, MODEL, SPLIT, CODES, LAYERS)
_LOCK = "run.lock"
TEST = "share to test"  # of the inputs
_ASKED = ("weights", "seed", TEST)  # of the inputs, all others say what the images are


@dataclass(frozen=True)
class Earlier:
    """A result that a run had before its images changed.

    Parameters
    ----------
    finished : str
        When, as ISO 8601.
    images, test : int
        All of them, and those that tested.
    top1 : float or None
        Accuracy, 0..1; None if nothing was tested.
    recipe : str
    """

    finished: str
    images: int
    test: int
    top1: float | None
    recipe: str

    @classmethod
    def of(cls, report: RunReport) -> Earlier:
        """Of a report."""
        found = report.evaluation
        top1 = None if found is None else found.top1
        return cls(report.finished, report.images, report.test, top1, report.recipe)


@dataclass(frozen=True, kw_only=True)
class RunOrder:
    """What a person asks of a run: the keywords of :func:`~cnncodes.advice.run` and :func:`~cnncodes.advice.plan_run`.

    Parameters
    ----------
    recipe : name or path, optional
        By default the advised one.
    assignments : sequence of str
        Changes in the recipe: ``"train.epochs=3"``.
    data : str, optional
        How the images are named in a command.
    test : float, optional
        Share of each class to keep for the test, 0..1, of images without a split of their own; by default 0.2.
    device : str, default "auto"
    workers : int, optional
        Decoding threads.
    processes : int, default 1
        Worker processes that extract and test.
    seed : int, default 0
    progress : callable(step, done, total, word), optional
    notes : callable(text), optional
        Told what a person should know of a training: a restart, a loss that stands still and what to try.
    told : callable(what, record), optional
        Called as soon as something is known that was not known before: ``"split"`` with the division, ``"advice"`` with the
        :class:`~cnncodes.advice.Advice`, ``"plan"`` with the :class:`~cnncodes.advice.RunPlan`.
    overwrite : bool, default False
        Take away what a run has left in the folder, and start anew; other files there are not touched.
    division : Division, optional
        A split that is already made, such as that of a comparison. No advice is computed then: name the recipe.
    codes : path, optional
        Folder of a run on the same images whose codes may be used.
    """

    recipe: str | os.PathLike[str] | None = None
    assignments: Sequence[str] = ()
    data: str | None = None
    test: float | None = None
    device: str = "auto"
    workers: int | None = None
    processes: int = 1
    seed: int = 0
    progress: Progress | None = None
    notes: Callable[[str], None] | None = None
    told: Callable[[str, Any], None] | None = None
    overwrite: bool = False
    division: Division | None = None
    codes: Path | None = None

    @property
    def share(self) -> float:
        """Of each class, to keep for the test."""
        return HELD_OUT if self.test is None else self.test

    @property
    def compute(self) -> Compute:
        """Where the work is done."""
        progress = self.progress or no_progress
        return Compute(self.device, self.workers, self.processes, seed=self.seed, progress=progress)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is going to do.

    Parameters
    ----------
    folder : str
    images, classes, train, val, test : int
        Counts; val is 0 where folds choose.
    split : str
        How the images were divided, in words.
    problems : tuple of Finding
        About the data.
    unreadable : dict of str to str
        Every image that was needed and could not be read, with the reason.
    recipe, method, summary : str
        What is followed: the recipe's name, its method, its own line about itself.
    chosen_by : {"advice", "person"}
    reasons : tuple of Fact
        Why this recipe.
    recipe_text : str
        The resolved recipe as TOML.
    expected_seconds : float or None
        What following it takes here, by the advice; None of a recipe that a person has chosen, and in older reports.
    """

    folder: str
    images: int
    classes: int
    train: int
    val: int
    test: int
    split: str
    problems: tuple[Finding, ...]
    unreadable: dict[str, str]
    recipe: str
    method: str
    summary: str
    chosen_by: str
    reasons: tuple[Fact, ...]
    recipe_text: str
    expected_seconds: float | None = None

    def to_json(self) -> str:
        """JSON object with one entry per field, and the sentences of findings and reasons."""
        return json.dumps(self._values())

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = to_value(self)
        values["problems"] = [finding_value(finding) for finding in self.problems]
        values["reasons"] = [reason_value(fact) for fact in self.reasons]
        return values


@dataclass(frozen=True, kw_only=True)
class RunReport(RunPlan):
    """Everything that a run found out and did: what its plan has, and the result. The first reason says what was chosen inside.

    Parameters
    ----------
    model : str
    advice : Advice or None
        None for a network that was trained from new numbers.
    evaluation : Evaluation or None
        On images that nothing was fitted or chosen on; None if none could be kept.
    notes : tuple of Fact
        What makes the figures less certain than they look.
    files : dict of str to str
        What lies in the folder, by what it is.
    versions : dict of str to str
    seconds : dict of str to float
        Of each step, no time in two of them; of a step that was interrupted, in the process that finished it.
    command : str
        To predict with the model.
    finished : str
        When, as ISO 8601; empty in reports of before it was noted.
    stage : str
        That a linear head reads; empty for a training, and in reports of before it was noted.
    left_out : tuple of int
        Images of the data's own test split, by their row in ``split.csv``, that are copies of images to fit.
    copies : int
        How many of them could be read; they are not in ``evaluation``.
    top1_with_copies : float or None
        What the accuracy would be with them.
    untrained : bool
        Whether the weights that it started from are random numbers.
    history : tuple of Earlier
        Results of before the images changed, the oldest first.
    """

    model: str
    advice: Advice | None
    evaluation: Evaluation | None
    notes: tuple[Fact, ...]
    files: dict[str, str]
    versions: dict[str, str]
    seconds: dict[str, float]
    command: str
    finished: str = ""
    stage: str = ""
    left_out: tuple[int, ...] = ()
    copies: int = 0
    top1_with_copies: float | None = None
    untrained: bool = False
    history: tuple[Earlier, ...] = ()

    def placed(self, folder: Path) -> RunReport:
        """The same with the paths of where its folder is now."""
        model = str(folder / MODEL)
        return dataclasses.replace(self, folder=str(folder), model=model, command=predict_command(model))

    def to_json(self) -> str:
        """JSON object with one entry per field, and the sentences of findings, reasons, notes and advice."""
        values = self._values()
        values["notes"] = [note_value(fact) for fact in self.notes]
        if self.advice is not None:
            values["advice"] = parse_json(self.advice.to_json())
        return json.dumps(values)

    @classmethod
    @reading(
        "the report",
        CnnCodesError,
        "The file is damaged, or was written by another version of cnncodes; run again into another folder.",
    )
    def from_json(cls, text: str) -> RunReport:
        """Inverse of :meth:`to_json`; raises CnnCodesError for anything else."""
        values: dict[str, Any] = parse_json(text)
        for name in ("problems", "reasons", "notes"):  # once these were sentences
            values[name] = [upgraded(value) for value in values[name]]
        if values["advice"] is not None:
            values["advice"] = advice = Advice.from_values(values["advice"])
            values.setdefault("untrained", advice.untrained)  # older reports do not say it themselves
        return from_value(values, cls)


def predict_command(model: str) -> str:
    """What to type to ask a model about a new photograph."""
    return f"cnncodes predict {shlex.quote(model)} photo.jpg"


def inputs_of(catalog: Catalog, weights: Weights | None, order: RunOrder) -> dict[str, Any]:
    """What a run depends on, but for the recipe: equal for the same images, weights, seed and share to test."""
    return {
        **catalog_digests(catalog),
        "weights": None if weights is None else weights.fingerprint,
        "seed": order.seed,
        TEST: order.share,
    }


def page_is_current(folder: str | os.PathLike[str]) -> bool:
    """Whether a run's folder holds a page that is not older than its report, and than its comparison of recipes if there is one."""
    page, report, tried = (Path(folder) / name for name in (PAGE, REPORT, f"{TRY}/{RECORD}"))
    try:
        of = [path.stat().st_mtime_ns for path in (report, tried) if path == report or path.exists()]
        return page.stat().st_mtime_ns >= max(of)
    except OSError:
        return False


class RunNote:
    """``run.json``: how the run was started, and what its steps said. Written whole or not at all.

    Parameters
    ----------
    folder : Path
        There.
    inputs : dict
        See :func:`inputs_of`.
    beside : bool, default False
        Whether a new note may stand beside files of other kinds: :func:`remove_run` has looked at them.

    Raises
    ------
    OutputExistsError
        If the folder holds something that is no run.
    ResumeError
        If it holds a run of other weights, seed or share to test; names all that changed.
    """

    def __init__(self, folder: Path, inputs: dict[str, Any], beside: bool = False) -> None:
        self.path, self.asked = folder / NOTE, inputs
        #: Whether the run was started with other images, or with another order, split, labels or files of the same ones.
        self.images_changed = False
        self.values: dict[str, Any] = {}
        if not self.path.exists():
            if not beside:
                check_empty(folder)
            self.restart()
            return
        self.values = _read(self.path)
        there = {TEST: HELD_OUT} | self.values["inputs"]  # notes of before there was a choice
        changed = [name for name, value in inputs.items() if there.get(name) != value]
        self.images_changed = bool(changed)
        if any(name in _ASKED for name in changed):
            shown = [
                f"{name} ({there.get(name)} then, {inputs[name]} now)"
                if isinstance(inputs[name], int | float)
                else name
                for name in changed
            ]
            raise ResumeError(
                f"the run in '{folder}' was started with something else: {', '.join(shown)} changed.",
                "Repeat it as it was started, choose another folder with -o, or start anew with --overwrite.",
            )

    def restart(self, **values: Any) -> None:
        """Begin the note of a run with the inputs that are asked for; nothing else of what was there stays."""
        now = Provenance.now()
        self.values = {
            "kind": KIND,
            "inputs": self.asked,
            "command": now.command,
            "created": now.created,
            "versions": now.versions,
            "seconds": {},
            **values,
        }
        self._write()

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise ResumeError(
                f"'{self.path}' has no entry '{name}': it is damaged, or was written by another version of cnncodes.",
                "Choose another folder with -o, or start anew with --overwrite.",
            )
        return self.values[name]

    def keep(self, **values: Any) -> None:
        """Remember something that a step said."""
        self.values |= values
        self._write()

    def _write(self) -> None:
        write_whole(self.path, json.dumps(self.values, indent=2))


def finished_on(folder: str | os.PathLike[str]) -> str | None:
    """When the run in a folder was finished, as ISO 8601; None if there is none, or it is not finished."""
    path = Path(folder) / REPORT
    try:
        _read(path.with_name(NOTE))
        finished = RunReport.from_json(read_text(path)).finished
        when = (
            datetime.fromisoformat(finished)
            if finished
            else datetime.fromtimestamp(path.stat().st_mtime, UTC)
        )
        return when.isoformat(timespec="seconds")
    except (OSError, ValueError, TypeError, CnnCodesError):
        return None


def left_by_run(folder: Path) -> list[Path]:
    """What a run, its pictures and its page have left in a folder, the note last; nothing that a run of its kind never makes.

    Raises
    ------
    OutputExistsError
        If the folder's note is not that of a run.
    """
    from cnncodes.training.folder import left_by_training

    method = _method(folder)
    names = [REPORT, MODEL, PREDICTIONS, PAGE, "confusion.png", CODES]
    names += [LAYERS] if method == "linear" else []
    names += ["curves.png", "page.h5"] if method in TRAINED else []
    names += ["depth.png"] if (folder / ADVICE).exists() else []
    own = [
        folder / name for name in (*names, *(f"{BEFORE}{name}" for name in ASIDE), ADVICE, SPLIT, KEPT, NOTE)
    ]
    trained = left_by_training(folder / TRAINING) if method in TRAINED else []
    tried = [path for run in _tried(folder) for path in left_by_run(run)]
    tried += [folder / TRY / name for name in (RECORD, TABLE, SETTINGS, SPLIT)]
    return [*trained, *(path for path in (*tried, *own) if path.is_symlink() or path.is_file())]


def _tried(folder: Path) -> list[Path]:
    """Folders of the runs that tried other recipes."""
    return [note.parent for note in sorted((folder / TRY).glob(f"*/{NOTE}"))]


def _method(folder: Path) -> str | None:
    """The method of a folder's run; None if no recipe was chosen yet."""
    if method := _read(folder / NOTE).get("method"):
        return str(method)
    try:  # notes of before it was noted
        return str(parse_toml(read_text(folder / KEPT))["method"])
    except (OSError, ValueError, KeyError):
        return None


def remove_run(folder: Path, anew: bool = False) -> None:
    """Take away what a run has left in a folder, and nothing else; killed in between, the folder is still a run's.

    If it goes on ``anew``, with other images, its note and what is set aside stay, and so do the runs of other recipes, which go on, too.

    Raises
    ------
    OutputExistsError
        If the folder holds something that is no run.
    OutputBusyError
        If another process writes a part of it.
    """
    from cnncodes.training.folder import remove_training

    if not (folder / NOTE).exists():
        check_empty(folder)
        return
    left, trained = left_by_run(folder), _method(folder) in TRAINED
    (folder / REPORT).unlink(missing_ok=True)  # first: what is not whole must not look finished
    if trained:
        remove_training(folder / TRAINING)
    for run in [] if anew else _tried(folder):
        remove_run(run)
        with contextlib.suppress(OSError):  # something of a person's is in it
            run.rmdir()
    for path in (path for path in left if path.parent in (folder, folder / TRY)):
        if anew and (path.name in (NOTE, SETTINGS) or path.name.startswith(BEFORE)):
            continue
        remove_partials(folder, path.name)
        with locked(path) if path.suffix == ".h5" else contextlib.nullcontext():
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (folder / TRY).rmdir()


def check_outside(data: Sequence[str], folder: str | os.PathLike[str]) -> None:
    """Raise OptionError if a run's folder would lie in a folder of images: its pictures would become a class."""
    place = Path(folder).resolve()
    for word in data:
        if Path(word).is_dir() and place.is_relative_to(Path(word).resolve()):
            raise OptionError(
                f"the folder '{folder}' is inside the images '{word}': its pictures would count as images.",
                "Choose a folder beside them with -o.",
            )


def check_empty(folder: Path) -> None:
    """Raise OutputExistsError if a folder without a run's note has anything in it."""
    own = {_LOCK, *(path.name for path in partials(folder, NOTE))}  # of a run that was killed as it began
    if there := sorted(path.name for path in folder.iterdir() if path.name not in own):
        more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
        raise OutputExistsError(
            f"'{folder}' is no run of 'cnncodes run', and '{there[0]}'{more} is in it.",
            "Nothing of it was touched; choose another folder with -o.",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path)
        if values["kind"] != KIND or not isinstance(values["inputs"], dict):
            raise KeyError("kind")
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputExistsError(
            f"'{path}' is there and was not written by 'cnncodes run'.",
            "Nothing was touched; choose another folder with -o.",
        ) from None
    return dict(values)


@reading(
    "the recipe of the run", ResumeError, "Choose another folder with -o, or start anew with --overwrite."
)
def recipe_differences(there: Path, asked: str) -> list[str]:
    """Entries that differ between a recipe's file and another's TOML: ``train.epochs = 20 then, 5 now``; raises ResumeError."""
    tables = []
    for text in (read_text(there), asked):
        flat: dict[str, Any] = {}
        for name, value in parse_toml(text).items():
            flat |= (
                {f"{name}.{key}": part for key, part in value.items()}
                if isinstance(value, dict)
                else {name: value}
            )
        tables.append(flat)
    one, other = tables
    return [
        f"{name} = {one.get(name)!r} then, {other.get(name)!r} now"
        for name in {**one, **other}
        if one.get(name) != other.get(name) and name not in ("source", "summary", "when.text")
    ]


def same_file(source: Path, target: Path) -> None:
    """The file under another name: a link where that is possible, else a copy; whole or not at all."""
    with replacing(target, overwrite=True, error=CnnCodesError) as whole:
        whole.unlink()
        try:
            whole.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, whole)
