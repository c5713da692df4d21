"""The folder of a run: the note of how it was started, by which it is known again, what it left there, and taking that away."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.advice.recipe import KEPT, recipe_of_run
from cnncodes.advice.run_record import (
    ADVICE,
    CODES,
    LAYERS,
    MODEL,
    PREDICTIONS,
    REPORT,
    SPLIT,
    TRAINING,
    Earlier,
    RunOrder,
    RunReport,
)
from cnncodes.codes.file import CodesFile, Provenance
from cnncodes.core.errors import CnnCodesError, ModelError, OptionError, OutputExistsError, ResumeError
from cnncodes.core.files import model_file, parse_toml, read_json, read_text, reading
from cnncodes.core.outputs import locked, partials, remove_partials, replacing, write_whole
from cnncodes.core.records import to_value
from cnncodes.heads.splits import HELD_OUT
from cnncodes.images import tables
from cnncodes.images.catalog import Catalog, catalog_of
from cnncodes.images.digests import catalog_digests
from cnncodes.images.readers import image_exists, is_url

if TYPE_CHECKING:
    from cnncodes.weights import Weights

KIND = "cnncodes run"
NOTE = "run.json"
PAGE = "report.html"
TRY = "try"  # a folder of other recipes' runs, and their comparison:
RECORD, TABLE, SETTINGS = "compare.json", "compare.csv", "settings.json"
BEFORE = "before-"  # of names: what a run had before its images changed, until it has a new result
ASIDE = (REPORT, MODEL, SPLIT, CODES, LAYERS)
TRAINED = ("finetune", "train")  # methods that leave a training
TEST = "share to test"  # of the inputs
_ASKED = ("weights", "seed", TEST)  # of the inputs, all others say what the images are
_CHOOSE = "Choose another folder with -o, or start anew with --overwrite."


def inputs_of(catalog: Catalog, weights: Weights | None, order: RunOrder) -> dict[str, Any]:
    """What a run depends on, but for the recipe: equal for the same images, weights, seed and share to test."""
    fingerprint = None if weights is None else weights.fingerprint
    return {**catalog_digests(catalog), "weights": fingerprint, "seed": order.seed, TEST: order.share}


class RunNote:
    """``run.json``: how the run was started, and what its steps said. Written whole or not at all.

    A new note stands only in an empty folder, or ``beside`` what :func:`remove_run` has looked at. Raises OutputExistsError if the
    folder holds no run, and ResumeError if it holds one of other weights, seed or share to test.
    """

    def __init__(self, folder: Path, inputs: dict[str, Any], beside: bool = False) -> None:
        self.path, self.asked = folder / NOTE, inputs
        self.images_changed = False  # or their order, split, labels or files
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
            numbers = {name for name in changed if isinstance(inputs[name], int | float)}
            shown = [
                f"{name} ({there.get(name)} then, {inputs[name]} now)" if name in numbers else name
                for name in changed
            ]
            raise ResumeError(
                f"the run in '{folder}' was started with something else: {', '.join(shown)} changed.",
                "Repeat it as it was started, choose another folder with -o, or start anew with --overwrite.",
            )

    def restart(self, **values: Any) -> None:
        """Begin the note of a run with the inputs that are asked for; nothing else of what was there stays."""
        now = Provenance.now()
        start = {"command": now.command, "created": now.created, "versions": now.versions, "seconds": {}}
        self.values = {}
        self.keep(kind=KIND, inputs=self.asked, **start, **values)

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            raise ResumeError(
                f"'{self.path}' has no entry '{name}': it is damaged, or was written by another version of cnncodes.",
                _CHOOSE,
            )
        return self.values[name]

    def keep(self, **values: Any) -> None:
        """Remember something that a step said."""
        self.values |= values
        write_whole(self.path, json.dumps(self.values, indent=2))


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


def _noted(folder: str | os.PathLike[str], name: str) -> Any:
    """An entry of a run's note; None where there is none."""
    try:
        note = read_json(Path(folder) / NOTE)
        return note[name] if note["kind"] == KIND else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


# --- reading a finished run


def read_records(folder: Path) -> tuple[RunReport, dict[str, Any]]:
    """A run's report, and the note of how it was started; raises ModelError if the folder holds no finished run."""
    try:
        note = read_json(folder / NOTE)
        known = isinstance(note, dict) and note.get("kind") == KIND
    except (OSError, ValueError):
        known, note = False, {}
    if not known:
        raise _no_run(folder, has_note=bool(note))
    missing = [name for name in (REPORT, SPLIT) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"the run in '{folder}' is not finished: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
            f"Repeat its command to continue it: {note.get('command', 'cnncodes run')}",
        )
    return RunReport.from_json(read_text(folder / REPORT)).placed(folder), note


def _no_run(folder: Path, has_note: bool) -> ModelError:
    """What is there in place of a run, and what to do."""
    make = "make one with: cnncodes run photos/ -o out"
    if not folder.exists():
        return ModelError(f"there is no folder '{folder}'.", f"Name the folder of a run, or {make}")
    if folder.is_file():
        is_run = (folder.parent / NOTE).is_file() and (folder.parent / SPLIT).is_file()
        write = f"Write: cnncodes report {shlex.quote(str(folder.parent))}"
        return ModelError(
            f"'{folder}' is a file, not the folder of a run.",
            write if is_run else f"Name a folder, or {make}",
        )
    if has_note:
        return ModelError(
            f"'{folder}' is the folder of a training by itself, without the images' split and a test.",
            "Give the same images and recipe to 'cnncodes run', which trains, tests and writes the page.",
        )
    return ModelError(f"'{folder}' is no folder of 'cnncodes run': it has no {NOTE}.", f"Name one, or {make}")


def read_split(path: Path) -> Catalog:
    """The catalog of a run's ``split.csv``, wherever its images are by now."""
    text = tables.read_text(str(path))
    return catalog_of(tables.parse_csv(text, os.fspath(path.resolve().parent), repr(str(path))))


def find_files(folder: Path, report: RunReport, catalog: Catalog) -> list[str]:
    """Path of each image: beside the run as it was, or, if the run's folder was moved, where its codes were made of."""
    files = [file if is_url(file) else os.path.normpath(file) for file in catalog.files]
    codes = folder / report.files.get("codes", "")
    if not any(map(image_exists, files[:20])) and codes.is_file():
        with contextlib.suppress(CnnCodesError), CodesFile(codes) as file:
            if len(file) == len(catalog):
                return list(file.catalog.files)
    return files


def command_of(model: str | os.PathLike[str]) -> str:
    """Command of the run that a model, or a folder, is of; empty where it is of none."""
    path = Path(model)
    return str(_noted(path if path.is_dir() else path.parent, "command") or "")


def finished_on(folder: str | os.PathLike[str]) -> str | None:
    """When the run in a folder was finished, as ISO 8601; None if there is none, or it is not finished."""
    path = Path(folder) / REPORT
    try:
        _read(path.with_name(NOTE))
        finished = RunReport.from_json(read_text(path)).finished
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)  # of reports that do not say it
        when = datetime.fromisoformat(finished) if finished else changed
        return when.isoformat(timespec="seconds")
    except (OSError, ValueError, TypeError, CnnCodesError):
        return None


def page_is_current(folder: str | os.PathLike[str]) -> bool:
    """Whether a run's folder holds a page that is not older than its report, and than its comparison of recipes if there is one."""
    page, report, tried = (Path(folder) / name for name in (PAGE, REPORT, f"{TRY}/{RECORD}"))
    try:
        of = [path.stat().st_mtime_ns for path in (report, tried) if path == report or path.exists()]
        return page.stat().st_mtime_ns >= max(of)
    except OSError:
        return False


# --- showing a finished run again, without its network


def weights_mark(name: str | None) -> list[Any]:
    """What changes where weights of a name may: size and time of their file, version of cnncodes; empty for new numbers (None)."""
    if name is None:
        return []
    version = Provenance.now().versions["cnncodes"]
    try:
        found = model_file(name).stat()
    except (OSError, ValueError):
        return [name, version]
    return [name, version, found.st_size, found.st_mtime_ns]


def keep_mark(folder: str | os.PathLike[str], mark: list[Any]) -> None:
    """Note in a finished run which weights it was started with, for :func:`finished_run`."""
    path = Path(folder) / NOTE
    note = read_json(path)
    if note.get("weights_mark") != mark:
        write_whole(path, json.dumps(note | {"weights_mark": mark}, indent=2))


def begun_with(folder: str | os.PathLike[str]) -> str | None:
    """Name of the weights that a finished run in a folder was started with (:func:`keep_mark`); None where it is not known."""
    mark = _noted(folder, "weights_mark")
    return str(mark[0]) if mark else None


def finished_run(
    catalog: Catalog, mark: list[Any], folder: str | os.PathLike[str], order: RunOrder
) -> RunReport | None:
    """The report of a finished run that these images, weights (:func:`weights_mark`) and order would show again; None if that is not certain."""
    place = Path(folder)
    try:
        report, note = read_records(place)
        inputs = {**catalog_digests(catalog), "seed": order.seed, TEST: order.share}
        there = {TEST: HELD_OUT} | note["inputs"]
        if note.get("weights_mark") != mark or any(there.get(name) != inputs[name] for name in inputs):
            return None
        advised, fit = (report.advice.recipe, report.advice.fit) if report.advice else ("", None)
        name, fit = (order.recipe, None) if order.recipe else (advised, fit)
        asked = recipe_of_run(name, order.assignments, mark[0] if mark else None, order.seed, fit)
        return None if recipe_differences(place / KEPT, asked.to_toml()) else report
    except (CnnCodesError, OSError, LookupError, TypeError, AttributeError):
        return None  # running it says what is wrong


@reading("the recipe of the run", ResumeError, _CHOOSE)
def recipe_differences(there: Path, asked: str) -> list[str]:
    """Entries that differ between a recipe's file and another's TOML: ``train.epochs = 20 then, 5 now``; raises ResumeError."""
    tables: list[dict[str, Any]] = [{}, {}]
    for flat, text in zip(tables, (read_text(there), asked), strict=True):
        for name, value in parse_toml(text).items():
            inside = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {}
            flat |= inside if isinstance(value, dict) else {name: value}
    one, other = tables
    return [
        f"{name} = {one.get(name)!r} then, {other.get(name)!r} now"
        for name in {**one, **other}
        if one.get(name) != other.get(name) and name not in ("source", "summary", "when.text")
    ]


# --- taking away what a run has left


def left_by_run(folder: Path) -> list[Path]:
    """What a run, its pictures and its page have left in a folder, the note last; raises OutputExistsError if the note is not a run's."""
    from cnncodes.training.folder import left_by_training

    method = _method(folder)
    names = [REPORT, MODEL, PREDICTIONS, PAGE, "confusion.png", CODES]
    names += [LAYERS] if method == "linear" else []
    names += ["curves.png", "page.h5"] if method in TRAINED else []
    names += ["depth.png"] if (folder / ADVICE).exists() else []
    names += [*(f"{BEFORE}{name}" for name in ASIDE), ADVICE, SPLIT, KEPT, NOTE]
    trained = left_by_training(folder / TRAINING) if method in TRAINED else []
    tried = [path for run in _tried(folder) for path in left_by_run(run)]
    tried += [folder / TRY / name for name in (RECORD, TABLE, SETTINGS, SPLIT)]
    own = [folder / name for name in names]
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

    If it goes on ``anew``, with other images, its note and what is set aside stay, and so do the runs of other recipes, which go on,
    too. Raises OutputExistsError if the folder holds something that is no run, OutputBusyError if another process writes in it.
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


def set_aside(note: RunNote) -> None:
    """Keep what of a run is of use once its images have changed, and begin the new one: killed in between, it can be repeated.

    Split, codes and result are kept under names that begin with ``before-`` until the new report is written: the split says which
    images test, and the codes of known images are not computed again.
    """
    folder = note.path.parent
    for name in ASIDE:  # the report first: what is not whole must not look finished
        if (folder / name).exists():
            (folder / name).replace(folder / f"{BEFORE}{name}")
    remove_run(folder, anew=True)
    history = note.values.get("history", [])
    with contextlib.suppress(OSError, CnnCodesError):
        report = RunReport.from_json(read_text(folder / f"{BEFORE}{REPORT}"))
        top1 = None if report.evaluation is None else report.evaluation.top1
        earlier = to_value(Earlier(report.finished, report.images, report.test, top1, report.recipe))
        history = [*(entry for entry in history if entry != earlier), earlier]
    note.restart(history=history)


def remove_before(folder: Path) -> None:
    """Take away what :func:`set_aside` has kept, once there is a new result."""
    for name in ASIDE:
        (folder / f"{BEFORE}{name}").unlink(missing_ok=True)


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
    own = {
        "run.lock",
        *(path.name for path in partials(folder, NOTE)),
    }  # of a run that was killed as it began
    if there := sorted(path.name for path in folder.iterdir() if path.name not in own):
        more = f" and {len(there) - 1:,} more" if len(there) > 1 else ""
        raise OutputExistsError(
            f"'{folder}' is no run of 'cnncodes run', and '{there[0]}'{more} is in it.",
            "Nothing of it was touched; choose another folder with -o.",
        )


def same_file(source: Path, target: Path) -> None:
    """The file under another name: a link where that is possible, else a copy; whole or not at all."""
    with replacing(target, overwrite=True, error=CnnCodesError) as whole:
        whole.unlink()
        try:
            whole.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, whole)
