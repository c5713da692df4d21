"""Options and arguments that several commands share: the same name, help and meaning in all of them.

Those of one subject alone stand in ``codes_options``, ``head_options``, ``weights_options``, ``training_options``,
``advice_options`` and ``benchmark_options``; each is written once. Together they are the doors to typer.
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from typer.core import TyperCommand

from cnncodes.core.errors import OptionError, OutputExistsError
from cnncodes.core.outputs import output_file

if TYPE_CHECKING:
    from cnncodes.cli.console import Reporter
    from cnncodes.images import Catalog
    from cnncodes.weights import Weights as LoadedWeights

__all__ = ["Exit", "Typer", "TyperCommand"]  # and every option and argument below

Exit = typer.Exit
Typer = typer.Typer

DATA_HELP = (
    "A folder (class/x.jpg, or train|val|test/class/x.jpg), a list (path label), "
    "a table (filename,label[,split]: CSV, TSV, JSON Lines, Parquet), images, globs, or files with many images (.tar, .parquet, .arrow)."
)

Data = Annotated[list[str], typer.Argument(metavar="DATA...", help=DATA_HELP, show_default=False)]
ClassesAre = Annotated[
    str | None,
    typer.Option(
        "--classes-are",
        metavar="top|sub|none",
        help="The classes are the folders at the top, or those in them (the folders above may be splits), or there are none. "
        "[default: as their names tell]",
        show_default=False,
    ),
]
ListRoot = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        help="Where the images are that a list, a table or a codes file names. [default: as it says, or its own folder]",
        show_default=False,
    ),
]
PathColumn, LabelColumn, SplitColumn = (
    Annotated[
        str | None,
        typer.Option(
            f"--{kind}-column",
            metavar="NAME",
            help=f"Of a table: the column of the {kind}. [default: a usual name, such as {usual}]",
            show_default=False,
        ),
    ]
    for kind, usual in (("path", "filename"), ("label", "class"), ("split", "subset"))
)
#: How DATA are read: keywords of :func:`cnncodes.images.read_catalog`, each an option of every command that takes DATA.
READING: dict[str, Any] = {
    "root": ListRoot,
    "path_column": PathColumn,
    "label_column": LabelColumn,
    "split_column": SplitColumn,
    "classes_are": ClassesAre,
}
Reading: TypeAlias = dict[str, str | None]
Codes = Annotated[
    str,
    typer.Argument(metavar="CODES", help="A codes file, made by 'cnncodes extract'.", show_default=False),
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="What is written.", show_default=False)
]
Network = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NETWORK",
        help="The network, where the weights do not say: alexnet, caffenet, torchvision/resnet50, timm/convnext_tiny, ... "
        "(cnncodes networks list).",
        show_default=False,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="imagenet, random:SEED (untrained, a baseline), or a file: .pth .safetensors .caffemodel .npy.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU if there is one."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Decoding threads. [default: one for each core]",
        show_default=False,
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        metavar="N",
        min=1,
        help="Worker processes that decode and compute, each with its share of the threads; more than 1 helps where many cores feed a GPU.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Compute on a Ray cluster: its address, auto (RAY_ADDRESS, a running one, or one that is started), or local.",
        show_default=False,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="DTYPE",
        help="Of the network's arithmetic: float32, bfloat16 or float16 (faster on GPUs and on CPUs with AMX).",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Version = Annotated[
    bool, typer.Option("--version", help="Print the versions of cnncodes and of its libraries.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no advice, only the result and errors.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of everything drawn at random.")]
OptionalWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="Where the weights are now. [default: as the file says]",
        show_default=False,
    ),
]
SplitRule = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="RULE",
        help="auto (the data's own splits, else a fifth of each class tests), none (fit on all), or the share that tests: 0.3.",
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Draws for each of --shots.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="A recipe to follow, see 'cnncodes recipes list'; the other options win over it.",
        show_default=False,
    ),
]
StartWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="Where the network starts: imagenet, starter, random:SEED, or a file: .pth .safetensors .caffemodel "
        ".npy. [default: imagenet]",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.NAME=VALUE",
        help="Any entry that the recipe can have, such as train.learning_rate=0.001, network.batch_norm=true or "
        "head.C=1; can be repeated.",
        show_default=False,
    ),
]
Folder = Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="Folder that is made.")]
Models = Annotated[
    str,
    typer.Option(
        "--models",
        metavar="NETWORK[=WEIGHTS],...",
        help="The networks: alexnet, torchvision/resnet50, timm/convnext_tiny, ... (cnncodes networks list), each with "
        "weights of its own if they follow: torchvision/resnet50=random:0.",
        show_default=False,
    ),
]
EachWeights = Annotated[
    str,
    typer.Option("--weights", metavar="WEIGHTS", help="Weights of the networks that are named without any."),
]
Recipes = Annotated[
    str,
    typer.Option(
        "--recipes",
        metavar="NAME|FILE,...",
        help="How each network is trained: linear (a head on its codes), finetune, or any recipe (cnncodes recipes list).",
    ),
]


def takes_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :data:`READING`, before --json; it gets them together as ``reading``."""

    @functools.wraps(command)
    def with_reading(**values: Any) -> None:
        reading = {name: values.pop(name) for name in READING}
        command(**values, reading=reading)

    asked = dict(inspect.signature(command, eval_str=True).parameters)
    del asked["reading"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in READING.items()
    ]
    parameters = [parameter.replace(kind=keyword) for parameter in asked.values()]
    place = list(asked).index("json")
    parameters[place:place] = added
    with_reading.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_reading.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_reading


def read_images(data: list[str], reading: Reading, *, stored: bool) -> list[str] | Catalog:
    """The catalog of images; what is ``stored``, a codes file or a run, as it was named, since it says itself what is in it."""
    from cnncodes.images import read_catalog

    if not stored:
        return read_catalog(data, **reading)
    for name, value in reading.items():
        if value is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} says how images are read, and "
                + (f"'{data[0]}' says itself which images it has." if data else "none are named."),
                "Leave it out, or name the images instead.",
            )
    return data


def words(data: Sequence[str], reading: Reading) -> str:
    """How the data were named, as words of another command."""
    given = {f"--{name.replace('_', '-')}": value for name, value in reading.items() if value is not None}
    return shlex.join([*data, *(word for option in given.items() for word in option)])


def parse_C(text: str) -> float | list[float] | Literal["auto"]:
    """``auto``, one number, or several separated by commas."""
    if text == "auto":
        return "auto"
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(
            f"--C '{text}' is not a number.", "Use auto, a value, or several: --C 0.1,1,10."
        ) from None
    return values[0] if len(values) == 1 else values


def parse_integers(text: str, option: str) -> list[int]:
    """Positive integers separated by commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise OptionError(
            f"{option} '{text}' is not a list of counts.", f"Use whole numbers: {option} 1,5,10."
        )
    return values


def parse_split(text: str) -> float | Literal["auto", "none"]:
    """``auto``, ``none``, or a share between 0 and 1."""
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise OptionError(f"--split '{text}' is not known.", "Use auto, none, or a share: --split 0.2.")
    return value


def check_free(
    output: str | Path,
    overwrite: bool,
    suffix: str = "",
    what: str = "a model file",
    option: str = "-o",
) -> None:
    """Refuse early what a command could not write after its work; ``option`` is the one that names it."""
    path = Path(output)
    if path.is_dir():
        raise OutputExistsError(f"'{path}' is a folder.", f"Name a file with {option}.")
    if path.suffix != suffix and suffix:
        raise OptionError(f"{what} ends in {suffix}, not '{path.name}'.", f"Rename the output ({option}).")
    if not path.parent.is_dir():
        raise OutputExistsError(
            f"the folder '{path.parent}' does not exist.", f"Make it: mkdir -p '{path.parent}'."
        )
    output_file(path, OutputExistsError)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", f"Choose another name with {option}, or use --overwrite."
        )


def check_folder(output: str | Path, names: Sequence[str], option: str = "-o") -> None:
    """Refuse early a folder that cannot be made, or in which files of these names cannot be written."""
    folder = Path(output)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputExistsError(f"'{there}' is a file, not a folder.", f"Name a folder with {option}.")
    effective = os.access in os.supports_effective_ids
    for place in (there, *(folder / name for name in names)):
        if place != there and place.is_dir():
            raise OutputExistsError(
                f"'{place}' is a folder; a file of this name is to be written.",
                f"Name another folder with {option}.",
            )
        if place.exists() and not os.access(place, os.W_OK, effective_ids=effective):
            raise OutputExistsError(f"'{place}' may not be written.", f"Name another folder with {option}.")


def check_picture(output: str | Path, suffix: str, overwrite: bool) -> None:
    """:func:`check_free` for what is written besides the result."""
    if suffix and Path(output).suffix.lower() != suffix:
        raise OptionError(
            f"a picture ends in {suffix}, not '{Path(output).name}'.", "Rename the output (-o)."
        )
    check_free(output, overwrite)


def load_weights(reporter: Reporter, name: str, network: str | None) -> LoadedWeights:
    """Weights by name, with a note of what their file has beside the network, or lacks."""
    from cnncodes.weights import load_weights as load

    weights = load(name, network=network)
    if weights.left_out is not None:
        reporter.note(f"weights '{name}': {weights.left_out}")
    return weights
