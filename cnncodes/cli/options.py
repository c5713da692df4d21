"""Every option and argument, once: the same name, help and meaning in all commands. The door to typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperCommand

from cnncodes.errors import OptionError, OutputExistsError

__all__ = ["Exit", "Typer", "TyperCommand"]  # and every option and argument below

Exit = typer.Exit
Typer = typer.Typer

DATA_HELP = (
    "A folder (class/x.jpg, or train|val|test/class/x.jpg), a list (path label), "
    "a CSV (filename,label[,split]), images or globs."
)

Data = Annotated[list[str], typer.Argument(metavar="DATA...", help=DATA_HELP, show_default=False)]
LabelledData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...", help=DATA_HELP.replace("images or globs", "or one codes file"), show_default=False
    ),
]
Codes = Annotated[
    str,
    typer.Argument(metavar="CODES", help="A codes file, made by 'cnncodes extract'.", show_default=False),
]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model file, made by 'cnncodes fit-linear'.", show_default=False),
]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="What is written.", show_default=False)
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="STAGES",
        help="Stages to store: fc7, fc6,fc7, conv1-3, pool5, all; fc7:linear is the value before the ReLU. "
        "[default: fc7, or those of --like]",
        show_default=False,
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NETWORK",
        help="The network, where the weights do not say: alexnet, caffenet, ...",
        show_default=False,
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="imagenet, random:SEED (untrained, a baseline), or a file: .pth .safetensors .cnnz .caffemodel .npy.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU if there is one."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Images per batch. [default: 16 to 64 by the number of images]",
        show_default=False,
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
Crops = Annotated[
    str,
    typer.Option(
        "--crops",
        metavar="CROPS",
        help="center, mirror or ten (each kept), mirror-mean or ten-mean (their codes averaged).",
    ),
]
Dtype = Annotated[
    str,
    typer.Option("--dtype", metavar="DTYPE", help="Of the stored codes: float32 or float16 (half the size)."),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="DTYPE",
        help="Of the network's arithmetic: float32, bfloat16 or float16 (faster on GPUs and on CPUs with AMX).",
    ),
]
Decoding = Annotated[
    str | None,
    typer.Option(
        "--decoding",
        metavar="HOW",
        help="exact, box (resizes only the crop, at most one grey level away) or reduced (large JPEGs at a "
        "smaller scale). [default: as the weights say]",
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="Only N images, spread evenly over the catalog.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop with exit code 1 at the first unreadable image.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no advice, only the result and errors.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of everything drawn at random.")]
InputSize = Annotated[
    int | None,
    typer.Option(
        "--input", metavar="PX", help="Input size in pixels. [default: the network's own]", show_default=False
    ),
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="CODES",
        help="Take weights and settings from another codes file, and its layers, if none are named.",
        show_default=False,
    ),
]
OptionalWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="Where the weights are now. [default: as the file says]",
        show_default=False,
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        metavar="FOLDER",
        help="Where the images are now. [default: as the file says]",
        show_default=False,
    ),
]
Sample = Annotated[int, typer.Option("--sample", metavar="N", min=1, help="Number of rows.")]
What = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NETWORK",
        help="A codes file, a model file, or a network: alexnet, alexnet2012, bvlc_alexnet, caffenet, vgg16, alexnet-tf.",
        show_default=False,
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to", metavar="FORMAT", help="npy, csv, parquet or projector (TensorBoard's).", show_default=False
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="STAGE",
        help="The layer to fit, or auto: the best of the file by validation. [default: fc7]",
        show_default=False,
    ),
]
OptionalLayer = Annotated[
    str | None,
    typer.Option(
        "--layer", metavar="STAGE", help="One layer of the file. [default: the deepest]", show_default=False
    ),
]
HeadKind = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="KIND",
        help="svm (scores) or softmax (probabilities). [default: svm]",
        show_default=False,
    ),
]
C = Annotated[
    str | None,
    typer.Option(
        "--C",
        metavar="C",
        help="auto (1e-5 to 1e5), a value, or several to choose from: 0.1,1,10. [default: auto]",
        show_default=False,
    ),
]
Folds = Annotated[int, typer.Option("--folds", metavar="N", min=2, help="Stratified folds that choose C.")]
Normalize = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        metavar="HOW",
        help="Of each image's codes: l2 (to length 1), standard (each column), none. [default: l2]",
        show_default=False,
    ),
]
ClassWeight = Annotated[
    str | None,
    typer.Option(
        "--class-weight",
        metavar="balanced",
        help="balanced: every class counts alike, however few its images.",
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
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots",
        metavar="N,N",
        help="Also: accuracy with so few images per class, such as 1,5,10.",
        show_default=False,
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", metavar="N", min=1, help="Draws for each of --shots.")]
ExportModel = Annotated[
    str | None,
    typer.Option(
        "--export",
        metavar="FORMAT",
        help="Also write the head for other tools: sklearn (skops file) or onnx.",
        show_default=False,
    ),
]
FitWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Parallel fits. [default: one for each core]",
        show_default=False,
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES...", help="Images, folders, globs, lists, or one codes file.", show_default=False
    ),
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, help="Classes per image, best first.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on standard output: one line per image and class.")]
ModelsAndData = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL... DATA",
        help="One or more model files (of fit-linear, train or finetune), and last the data. "
        + DATA_HELP.replace("images or globs", "or one codes file"),
        show_default=False,
    ),
]
ConfusionFile = Annotated[
    str | None,
    typer.Option(
        "--confusion",
        metavar="FILE",
        help="Also draw the confusion matrix, as PNG: a row per true class, colour by its share.",
        show_default=False,
    ),
]
VerdictsFile = Annotated[
    str | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Also write one line per image, the worst mistakes first: true and predicted class, both "
        "probabilities, rank of the true class.",
        show_default=False,
    ),
]
NoTemperature = Annotated[
    bool,
    typer.Option(
        "--no-temperature",
        help="Fit no temperature on the val split; else its images are computed too, where it is neither "
        "evaluated nor fitted on.",
    ),
]
EvaluateSplit = Annotated[
    str,
    typer.Option(
        "--split",
        metavar="SPLIT",
        help="auto (what the model was not fitted on: test, else val), all, train, val or test.",
    ),
]
OptionalCrops = Annotated[
    str | None,
    typer.Option(
        "--crops",
        metavar="CROPS",
        help="Other crops than the model's: center, mirror or ten (averaged).",
        show_default=False,
    ),
]
WeightsName = Annotated[
    str, typer.Argument(metavar="WEIGHTS", help="imagenet, random:SEED, or a file.", show_default=False)
]
CompressedOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="What is written, a .cnnz file. [default: beside MODEL; with --table nothing]",
        show_default=False,
    ),
]
Rank = Annotated[
    str,
    typer.Option(
        "--rank",
        metavar="N|auto",
        help="Store each fully connected matrix as two factors of this rank. auto: the rank that it has, if that is at "
        "most 512, as in networks trained with a rank; else the whole matrix. A smaller rank than it has costs accuracy "
        "that only training brings back.",
    ),
]
Bits = Annotated[
    int,
    typer.Option(
        "--bits", metavar="4..8", help="Bits per number: 8 and 7 lose next to nothing, see --table for the rest."
    ),
]
CompressionTable = Annotated[
    bool, typer.Option("--table", help="Try 8 to 4 bits and smaller ranks, and show size and loss of each.")
]
TableData = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Labelled images for --table: the accuracy of linear SVMs on their codes with each setting.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Its name, see 'cnncodes recipes list', or a TOML file.", show_default=False
    ),
]
RecipeNames = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...", help="Recipe files; names of 'cnncodes recipes list' too.", show_default=False
    ),
]
RecipeCopy = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="What is written. [default: RECIPE.toml]", show_default=False
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="A recipe to follow, see 'cnncodes recipes list'; the other options win over it.",
        show_default=False,
    ),
]
Run = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="The run: model, metrics, checkpoints.", show_default=False
    ),
]
Freeze = Annotated[
    str | None,
    typer.Option(
        "--freeze",
        metavar="STAGES",
        help="Stages that do not learn: conv1-3, conv, conv1-fc7, none. [default: none]",
        show_default=False,
    ),
]
StartWeights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="Where the network starts: imagenet, random:SEED, or a file: .pth .safetensors .cnnz .caffemodel .npy. "
        "[default: imagenet]",
        show_default=False,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        min=1,
        help="Times that every image is seen. [default: 10; of train: 90]",
        show_default=False,
    ),
]
MoreData = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="One more data set, beside DATA; can be repeated.",
        show_default=False,
    ),
]
Heads = Annotated[
    str,
    typer.Option(
        "--heads",
        metavar="joined|each",
        help="Classes of several data sets: those of one name are one class, or each set has a head of its own.",
    ),
]
StartHead = Annotated[
    str | None,
    typer.Option(
        "--head",
        metavar="MODEL",
        help="Start the last layer from a fitted linear head (of 'cnncodes fit-linear' on codes of these weights).",
        show_default=False,
    ),
]
Activation = Annotated[
    str | None,
    typer.Option(
        "--activation",
        metavar="relu|tanh",
        help="tanh repeats the comparison of the 2012 paper. [default: relu]",
        show_default=False,
    ),
]
KeepHead = Annotated[
    bool, typer.Option("--keep-head", help="Keep the last layer, if the classes are the same.")
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
TrainingBatch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        help="Images per step. [default: 32; of train: 128]",
        show_default=False,
    ),
]
TrainingSeed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", help="Of everything drawn at random. [default: 0]", show_default=False
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder, at the very step.")]
NewNetwork = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NETWORK",
        help="alexnet, alexnet2012, caffenet, vgg16, ... [default: alexnet]",
        show_default=False,
    ),
]
TimedNetwork = Annotated[
    str,
    typer.Option(
        "--model", metavar="NETWORK", help="alexnet, alexnet2012, bvlc_alexnet, caffenet, vgg16, alexnet-tf."
    ),
]
TimedBatch = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Images per batch.")]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="STAGE",
        help="The last stage that is computed: pool5, fc8, ... [default: the network's last]",
        show_default=False,
    ),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Use torch.compile; the call that compiles is not counted.")
]
EachStage = Annotated[bool, typer.Option("--stages", help="Also time each stage alone, forward.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Batches that are timed.")]
BurnIn = Annotated[
    int, typer.Option("--burn-in", metavar="N", min=0, help="Batches before them that are not counted.")
]
Folder = Annotated[str, typer.Option("--output", "-o", metavar="FOLDER", help="Folder that is made.")]
RunFolder = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Everything that the run leaves: model, report, split, codes or training.",
        show_default=False,
    ),
]
RunRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Follow this recipe, see 'cnncodes recipes list'. [default: the advised one]",
        show_default=False,
    ),
]
AdviceFolder = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="Also keep the advice here: advice.json and the curve of accuracy by depth, depth.png.",
        show_default=False,
    ),
]
ThresholdsFile = Annotated[
    str | None,
    typer.Option(
        "--thresholds",
        metavar="FILE",
        help="A TOML file with other numbers to decide by, such as large_images = 5000.",
        show_default=False,
    ),
]
SeveralWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="As for extract; can be repeated. [default: imagenet, or the codes file's]",
        show_default=False,
    ),
]
ProbeLayers = Annotated[
    str,
    typer.Option(
        "--layers",
        metavar="STAGES",
        help="all: every numbered layer once, after its pooling (of a codes file: all that it has); or fc6,fc7, conv1-3, ...",
    ),
]
ProbeShots = Annotated[
    str,
    typer.Option(
        "--shots", metavar="N,N", help="Images per class to learn from; all is the whole train split."
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="NAME,...",
        help="To compare with: pixels (32 x 32), histogram (of colours and edges), random:0, other weights, "
        "an HDF5 file of features of the same images.",
        show_default=False,
    ),
]
ProbeNormalize = Annotated[
    str,
    typer.Option(
        "--normalize", metavar="HOW", help="Of the codes: standard (each column), l2 (each image), none."
    ),
]
ProbeC = Annotated[
    str, typer.Option("--C", metavar="C", help="auto (chosen by folds in each draw), or a value.")
]
Picture = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="PNG", help="Also draw it, as PNG.", show_default=False),
]
CsvFile = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Also write every draw as CSV.", show_default=False),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="FOLDER",
        help="Keep the extracted codes there; the same probe then starts from them.",
        show_default=False,
    ),
]
TestLimit = Annotated[
    int,
    typer.Option(
        "--limit", metavar="N", min=1, help="Test on at most N images, as many of each class as can be."
    ),
]


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


def parse_rank(text: str) -> int | None:
    """``auto`` (None), or a number."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--rank '{text}' is no number.", "Use auto, or a number: --rank 128.") from None


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
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists already.", f"Choose another name with {option}, or use --overwrite."
        )


def check_picture(output: str | Path, suffix: str, overwrite: bool) -> None:
    """:func:`check_free` for what is written besides the result."""
    if suffix and Path(output).suffix.lower() != suffix:
        raise OptionError(
            f"a picture ends in {suffix}, not '{Path(output).name}'.", "Rename the output (-o)."
        )
    check_free(output, overwrite)
