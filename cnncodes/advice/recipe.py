"""A recipe as a record: from a TOML file, checked as a whole, with what the command line changes in it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cnncodes.advice.recipe_schema import FILES, Draft, ExtractSettings, Flaw, HeadSettings, Method, When
from cnncodes.core.errors import CnnCodesError, OptionError, nearest
from cnncodes.core.files import parse_toml, read_text
from cnncodes.core.outputs import write_whole
from cnncodes.core.records import from_value
from cnncodes.networks import Network, get_network
from cnncodes.training.settings import TrainingSettings
from cnncodes.weights.preprocessing import Fit, Preprocessing, fit_word

#: The command that follows a recipe of each method.
COMMANDS: dict[Method, str] = {"linear": "fit-linear", "finetune": "finetune", "train": "train"}
_PACKAGE = Path(__file__).resolve().parent.parent
KEPT = "recipe.toml"  # in a run's folder


class RecipeError(CnnCodesError):
    """A recipe file with mistakes: ``flaws`` has each with its line, ``problem`` lists them, one a line."""

    def __init__(self, name: str, flaws: tuple[Flaw, ...]) -> None:
        count = "a mistake" if len(flaws) == 1 else f"{len(flaws)} mistakes"
        listed = "\n".join(f"  {flaw}" for flaw in flaws)
        super().__init__(
            f"recipe '{name}' has {count}:\n{listed}",
            "Correct these lines; 'cnncodes recipes show scratch' shows a recipe that is right.",
        )
        self.flaws = flaws


@dataclass(frozen=True)
class Recipe:
    """How to get from images to a classifier, and when that is the right way; every number is decided.

    What another method would use has its defaults, and is not written.
    """

    summary: str  # one line
    method: Method
    source: str  # where it comes from: a paper, a course note
    when: When = field(default_factory=When)
    network: str = "alexnet"  # of "train": the network's name
    weights: str = "imagenet"  # of "linear" and "finetune": the weights to start from
    fit: Fit | None = None  # of "linear", "finetune": a photograph becomes a square; None: as the weights say
    images: Preprocessing = field(default_factory=Preprocessing)  # of "train"
    extract: ExtractSettings = field(default_factory=ExtractSettings)  # of "linear"
    head: HeadSettings = field(default_factory=HeadSettings)  # of "linear"
    training: TrainingSettings = field(default_factory=TrainingSettings)  # of "finetune", "train"
    name: str = field(default="", compare=False)  # how it was asked for; no part of what it says

    def for_network(self, network: Network) -> Recipe:
        """The recipe with a network's layers at the depths of AlexNet's that it names; all up to the deepest frozen one is frozen."""
        if network.stages:
            return self
        layers, freeze = self.extract.layers, self.training.freeze
        extract = replace(self.extract, layers=",".join(network.recipe_layers(layers)))
        head = self.head
        if head.layer != "auto":
            head = replace(head, layer=network.recipe_layers(head.layer)[0])
        if freeze != "none":
            names = network.stage_names
            deepest = max(names.index(name) for name in network.recipe_layers(freeze))
            freeze = ",".join(names[: deepest + 1])
        return replace(self, extract=extract, head=head, training=replace(self.training, freeze=freeze))

    def training_settings(self, **overrides: Any) -> TrainingSettings:
        """The settings of its training, some of them changed: ``training_settings(epochs=3)``."""
        if self.method == "linear":
            raise OptionError(
                f"recipe '{self.name}' fits a linear head and trains no network.",
                "Use its 'extract' and 'head', or a recipe of the method 'finetune' or 'train'.",
            )
        known = [entry.name for entry in dataclasses.fields(TrainingSettings)]
        if unknown := sorted(set(overrides) - set(known)):
            raise OptionError(
                f"there is no training setting {', '.join(unknown)}.", f"Allowed: {', '.join(known)}."
            )
        return dataclasses.replace(self.training, **overrides)

    def require(self, command: str) -> None:
        """Raise OptionError, naming the right command, if the recipe is for another one than ``command``."""
        if COMMANDS[self.method] == command:
            return
        raise OptionError(
            f"recipe '{self.name}' is for 'cnncodes {COMMANDS[self.method]}' (method {self.method}), "
            f"not for '{command}'.",
            f"Use: {'; '.join(' '.join(words) for words in self.commands())}.",
        )

    def commands(self, data: str = "photos/") -> tuple[tuple[str, ...], ...]:
        """The commands that follow it, each as its words."""
        if self.method != "linear":
            return (("cnncodes", COMMANDS[self.method], data, "--recipe", self.name, "-o", "run"),)
        extract = ["cnncodes", "extract", data, "-o", "codes.h5", "--layers", self.extract.layers]
        if self.extract.crops != "center":
            extract += ["--crops", self.extract.crops]
        if self.fit is not None:
            extract += ["--fit", fit_word(self.fit)]
        if self.weights != "imagenet":
            extract += ["--weights", self.weights]
        fit = ["cnncodes", "fit-linear", "codes.h5", "--recipe", self.name, "-o", "model.safetensors"]
        return tuple(extract), tuple(fit)

    def to_toml(self) -> str:
        """The resolved recipe: every number, also those that its file leaves to the defaults. See :meth:`from_toml`."""
        parts: dict[str, dict[str, Any]] = {"when": dataclasses.asdict(self.when)}
        if self.method == "train":
            parts |= {"network": {"name": self.network}, "images": dataclasses.asdict(self.images)}
        else:
            parts["network"] = {"weights": self.weights}
            parts |= {} if self.fit is None else {"images": {"fit": self.fit}}
        if self.method == "linear":
            parts |= {"extract": dataclasses.asdict(self.extract), "head": dataclasses.asdict(self.head)}
        else:
            parts["train"] = dataclasses.asdict(self.training)
            parts["network"] |= parts["train"].pop("network")
        head = {"summary": self.summary, "method": self.method, "source": self.source}
        return "\n".join([_lines(head), *(f"[{name}]\n{_lines(part)}" for name, part in parts.items())])

    @classmethod
    def from_toml(
        cls,
        text: str,
        name: str = "",
        assignments: Iterable[str] = (),
        options: Mapping[str, str] | None = None,
    ) -> Recipe:
        """Read a recipe from TOML text. Parameters as for :func:`load_recipe`."""
        draft = Draft()
        draft.read_text(text)
        return _finish(draft, name, assignments, options or {})

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Keep the resolved recipe in a run's folder, as ``recipe.toml``."""
        path = Path(folder) / KEPT
        write_whole(path, self.to_toml())
        return path


def recipe_folder() -> Path:
    """Folder of the recipes that came with this copy of cnncodes: a wheel's, or the checkout's."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise CnnCodesError("the recipes are not beside the package.", "Install cnncodes again.")


def recipe_files() -> dict[str, Path]:
    """Name and file of each recipe, by name."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """File of a recipe: the file of that path, if there is one, else the recipe of that name.

    Raises
    ------
    OptionError
        If there is neither; the message has the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.exists():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise OptionError(f"'{name}' is {kind}, not a recipe.", "Name a TOML file, or a recipe by its name.")
    files = recipe_files()
    if name in files:
        return files[name]
    if path.suffix == ".toml" and path.stem not in files:
        remedy = "Start from one: 'cnncodes recipes copy NAME -o FILE'."
        raise OptionError(f"there is no recipe file '{name}'.", remedy)
    raise OptionError(f"there is no recipe '{name}'.", nearest(path.stem, files))


def recipe_summary(path: Path) -> str:
    """The recipe's own line about itself."""
    return str(parse_toml(read_text(path))["summary"])


def load_recipe(
    name_or_path: str | os.PathLike[str],
    assignments: Iterable[str] = (),
    *,
    options: Mapping[str, str] | None = None,
) -> Recipe:
    """A recipe by its name or file, with what is changed in it.

    Parameters
    ----------
    name_or_path : str or path
        A name of ``cnncodes recipes list``, or a TOML file; a file of that name comes first.
    assignments : iterable of str
        Changes such as ``"train.learning_rate=1e-3"``; a bare name belongs to [train]. The last one holds.
    options : {str: str}, optional
        Changes that come before these, each under the name of the option that a person gave:
        ``{"--epochs": "train.epochs=3"}``.

    Raises
    ------
    RecipeError
        With all mistakes of the file, each with its line and the nearest right word.
    OptionError
        If there is no such recipe, or only assignments or options are wrong.
    """
    path = find_recipe(os.fspath(name_or_path))
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        flaw = Flaw(line, f"byte {error.object[error.start]:#04x} is not UTF-8.")
        raise RecipeError(os.fspath(name_or_path), (flaw,)) from None
    except OSError as error:
        problem = f"the recipe '{path}' cannot be read: {error.strerror}."
        raise OptionError(problem, "Name a TOML file, or a recipe by its name.") from error
    return Recipe.from_toml(text, os.fspath(name_or_path), assignments, options)


def recipe_of_run(
    name: str | os.PathLike[str],
    assignments: Sequence[str],
    weights: str | None,
    seed: int,
    fit: Fit | None = None,
) -> Recipe:
    """A recipe with what a person changed in it, the run's weights (their name) and seed, and the fit that the advice chose."""
    method = load_recipe(name).method
    given: dict[str, str] = {}
    if fit is not None:
        given["--fit"] = f"images.fit={fit}"
    if weights is not None and method != "train":
        given["--weights"] = f"network.weights={weights}"
    if method != "linear":
        given["--seed"] = f"train.seed={seed}"
    return load_recipe(name, assignments, options=given)


def asked_fit(recipe: str | os.PathLike[str] | None, assignments: Sequence[str]) -> str | None:
    """How photographs are to become squares by a recipe, if one is asked for, and the changes in it; None if nothing says it."""
    if recipe is not None:
        return load_recipe(recipe, assignments).fit
    draft = Draft()
    for assignment in assignments:
        draft.assign(assignment)
    fit = draft.given("images", "fit")
    return None if fit is None else str(fit)


def plain_recipe(
    method: Method, assignments: Iterable[str] = (), *, options: Mapping[str, str] | None = None
) -> Recipe:
    """The defaults of a method as a recipe, with what is changed in them; raises OptionError."""
    top = {"summary": f"cnncodes {COMMANDS[method]} without a recipe", "method": method, "source": "defaults"}
    return _finish(Draft(dict(top)), "defaults", assignments, options or {})


def _finish(draft: Draft, name: str, assignments: Iterable[str], options: Mapping[str, str]) -> Recipe:
    for option, assignment in options.items():
        draft.assign(assignment, option)
    for assignment in assignments:
        draft.assign(assignment)
    padded, crops = draft.given("images", "fit") == "pad", str(draft.given("extract", "crops"))
    if padded and crops.startswith("ten") and draft.in_file("extract", "crops"):
        draft.assign("extract.crops=center", "--fit")  # one crop shows all
    method = draft.method
    network = _network(draft, method) if method else None
    images = {} if network is None else {"crop": network.input_size}
    if padded:  # all of a picture is seen
        crop = draft.given("images", "crop")
        images["resize"] = crop if isinstance(crop, int) else images.get("crop", Preprocessing.crop)
    draft.check(images)
    if network is not None:
        _check_stages(draft, network)
    flaws = tuple(sorted(draft.flaws, key=lambda flaw: (flaw.line is None, flaw.line or 0)))
    if any(flaw.line is not None for flaw in flaws):
        raise RecipeError(name, flaws)
    if len(flaws) == 1:
        raise OptionError(f"{flaws[0].option}: {flaws[0].problem}", flaws[0].remedy or "Leave it out.")
    if flaws:
        listed = "\n".join([f"{len(flaws)} options cannot be used:", *(f"  {flaw}" for flaw in flaws)])
        raise OptionError(listed, "Correct them, or leave them out.")
    assert method is not None
    parts = vars(from_value(draft.file_values(method, images), FILES[method]))
    origin, training = parts.pop("network"), parts.pop("train", TrainingSettings())
    if method == "train":
        return Recipe(**parts, network=origin.name, training=training, name=name)
    fit = parts.pop("images").fit
    return Recipe(**parts, weights=origin.weights, fit=fit, training=training, name=name)


def _network(draft: Draft, method: Method) -> Network | None:
    """The network of the recipe, as far as it says; what is in a weights file is not known here."""
    name = draft.given("network", "name" if method == "train" else "weights")
    if method == "train" and isinstance(name, str):
        try:
            return get_network(name)
        except CnnCodesError as error:
            draft.fault("network", "name", error)
            return None
    named = name is None or str(name).partition(":")[0] in ("imagenet", "random")
    return get_network("alexnet") if named else None


def _check_stages(draft: Draft, network: Network) -> None:
    """Stage names of the file; those of the command line are checked against the network that is really used."""
    for section, key in (("train", "freeze"), ("extract", "layers"), ("head", "layer")):
        value = draft.given(section, key)
        if not draft.in_file(section, key) or not isinstance(value, str) or (key, value) == ("layer", "auto"):
            continue
        try:
            names = network.select(value)
            if key == "layer":
                network.select_one(value)
                layers = draft.given("extract", "layers") or ExtractSettings.layers
                if names[0] not in network.select(layers):
                    problem = f"head.layer = '{value}' is not one of extract.layers = '{layers}'."
                    draft.flag((section, key), problem)
        except CnnCodesError as error:
            draft.fault(section, key, error)


def toml_value(value: object) -> str:
    """One value as TOML text: booleans, numbers, strings, and lists of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's too, but for DEL, which TOML wants escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    raise TypeError(f"{type(value).__name__} has no form in TOML here")


def _lines(values: Mapping[str, Any]) -> str:
    """``key = value`` lines; None has no form in TOML and is left out."""
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items() if value is not None)
