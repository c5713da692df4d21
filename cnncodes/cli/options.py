"""Every option and argument, declared once: the same name, help and meaning in all commands. The door to typer.

A command takes an option by its annotation, and options that belong together as a :class:`Group` (``cli/arguments``).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

__all__ = ["Exit", "Typer", "TyperCommand", "TyperGroup"]  # and every option and argument below

Exit = typer.Exit
Typer = typer.Typer
MORE = "More options"  # below the options that most people need


class Group:
    """Options that travel together: the keywords of the constructor are the options, the object is what a command gets."""

    exit_code = 0  # of the command, if it ends without an error


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer needs it: each parameter that is a :class:`Group` becomes the options of the group.

    Groups that stand first in the command stand last in its help, the first of them (which prints) at the very end.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: inspect.signature(part.annotation, eval_str=True).parameters
        for name, part in own.items()
        if isinstance(part.annotation, type) and issubclass(part.annotation, Group)
    }

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        made = {
            name: own[name].annotation(**{option: values.pop(option) for option in options})
            for name, options in groups.items()
        }
        command(**values, **made)
        for group in made.values():
            if group.exit_code:
                raise Exit(group.exit_code)

    first = list(takewhile(groups.__contains__, own))
    ordered = [*(name for name in own if name not in first), *first[1:], *first[:1]]
    flat = [option for name in ordered for option in groups.get(name, {name: own[name]}).values()]
    parameters = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in flat]
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {part.name: part.annotation for part in parameters}
    return expanded


def option(names: str, metavar: str, text: str, *, more: bool = False, least: int | None = None) -> Any:
    """An option; ``more`` lists it below those that most people need, ``least`` is the smallest number allowed."""
    panel = MORE if more else None
    return typer.Option(*names.split(), metavar=metavar, help=text, min=least, rich_help_panel=panel)


def flag(names: str, text: str, *, more: bool = False) -> Any:
    """An option without a value."""
    return typer.Option(*names.split(), help=text, rich_help_panel=MORE if more else None)


def argument(metavar: str, text: str) -> Any:
    """What stands without a name."""
    return typer.Argument(metavar=metavar, help=text)


DATA_HELP = (
    "A folder (class/x.jpg or train|val|test/class/x.jpg), a list (path label), "
    "a table (filename,label[,split] as CSV, TSV, JSON Lines or Parquet), images, globs, "
    "or files that contain images (.tar, .parquet, .arrow, .npy, .h5), or URLs."
)
DATA_OR_CODES = DATA_HELP.replace("images, globs, or files", "images, globs, one codes file, or files")
WEIGHTS_HELP = (
    "imagenet, starter, random:SEED (untrained, a baseline), or a file: .pth .safetensors .caffemodel .npy."
)
CLASSIFIER_HELP = (
    "Network: imagenet, starter, random:SEED, a weights file, or a model of 'run' or 'fit-linear'."
)

# One option per entry; ruff format would spread each over seven lines.
# fmt: off

# Input
Data = Annotated[list[str], argument("DATA...", DATA_HELP)]
LabelledData = Annotated[list[str], argument("DATA...", DATA_OR_CODES)]
MoreData = Annotated[list[str] | None, option("--data", "DATA", "Another data set to train on; repeatable.", more=True)]
ClassesAre = Annotated[str | None, option("--classes-are", "top|sub|none", more=True, text=
    "Folders that name the classes: the top ones, those inside them, or none. [default: decided from the folder names]")]
LabelsFiles = Annotated[list[str] | None, option("--labels", "FILE", more=True, text=
    "A table (filename,label) whose labels replace those of DATA; an empty label leaves an image out; repeatable.")]
ExcludeFiles = Annotated[list[str] | None, option("--exclude", "FILE", more=True, text=
    "A list of images to leave out (.txt, one a line, or a CSV with the column filename); repeatable.")]
Root = Annotated[str | None, option("--root", "FOLDER", more=True, text=
    "Folder with the images that a list, table or codes file names. [default: as recorded, or the list's folder]")]
PathColumn = Annotated[str | None, option("--path-column", "NAME", "Table column with the path. [default: a usual name such as filename]", more=True)]
LabelColumn = Annotated[str | None, option("--label-column", "NAME", "Table column with the label. [default: a usual name such as class]", more=True)]
SplitColumn = Annotated[str | None, option("--split-column", "NAME", "Table column with the split. [default: a usual name such as subset]", more=True)]
Codes = Annotated[str, argument("CODES", "Codes file from 'cnncodes extract'.")]
CodesOrModel = Annotated[str, argument("CODES|MODEL", "Codes file, or a model (file or folder of a run).")]
Parts = Annotated[list[str], argument("PARTS...", "Codes files from 'cnncodes extract --shard'.")]
Model = Annotated[str, argument("MODEL", "Folder of a run, or a model file of run, fit-linear, finetune or train.")]
Images = Annotated[list[str], argument("IMAGES...", "Images, folders, globs, lists, or one codes file.")]
ModelsAndData = Annotated[list[str], argument("MODEL... DATA",
    "One or more models (files or folders of runs), then the data. " + DATA_OR_CODES)]
What = Annotated[str, argument("FILE|NETWORK",
    "Codes file, model, folder of a run, weights, or network: alexnet, vgg16, torchvision/resnet50, ...")]
FinishedRun = Annotated[str, argument("RUN", "Folder of a finished 'cnncodes run'.")]
RecipeName = Annotated[str, argument("RECIPE", "Name of a recipe ('cnncodes recipes list') or a TOML file.")]
RecipeNames = Annotated[list[str], argument("FILE...", "Recipe files, or names from 'cnncodes recipes list'.")]
WeightsName = Annotated[str, argument("WEIGHTS", "imagenet, starter, random:SEED, or a file.")]
Pattern = Annotated[str, argument("PATTERN", "Part of the name, or a pattern with * and ?.")]
Image = Annotated[str, argument("IMAGE", "Image file: JPEG, PNG, WebP, ...")]
DataOrCodes = Annotated[list[str], argument("DATA|CODES|RUN...",
    "Images (folder, list, table, images or globs), a codes file that has the layer, or the folder of a run.")]
CodesOrData = Annotated[list[str], argument("CODES|RUN|DATA...",
    "Codes file, folder of a run, or images (folder, list, table, images or globs; their codes are not kept).")]

# Output
Output = Annotated[str, option("--output -o", "FILE", "Output file.")]
Folder = Annotated[str, option("--output -o", "FOLDER", "Output folder.")]
RunFolder = Annotated[str, option("--output -o", "FOLDER", "Output folder: model, report, split, codes or training.")]
TrainingFolder = Annotated[str, option("--output -o", "FOLDER", "Output folder: model, metrics, curves.")]
AdviceFolder = Annotated[str | None, option("--output -o", "FOLDER", "Also write advice.json and depth.png here.")]
RecipeCopy = Annotated[str | None, option("--output -o", "FILE", "Output file. [default: RECIPE.toml]")]
PageOutput = Annotated[str | None, option("--output -o", "FILE.html", "Output file. [default: RUN/report.html]")]
CardOutput = Annotated[str, option("--output -o", "FILE.md", "Output file.")]
PageTitle = Annotated[str | None, option("--title", "TEXT", "Title of the page. [default: name of the folder]")]
ProbePicture = Annotated[str | None, option("--output -o", "FILE.png", "Also draw the result.")]
Picture = Annotated[str | None, option("--output -o", "FILE", "Output: .png, .svg or .pdf. [default: COMMAND-IMAGE.png here]")]
Slides = Annotated[str, option("--output -o", "FOLDER", "Output folder: the pictures and index.html, a page of all of them.")]
SlidesTitle = Annotated[str | None, option("--title", "TEXT", "Title of the page. [default: names the image]")]
PictureTitle = Annotated[str | None, option("--title", "TEXT", "Title of the picture; what it shows moves to the note.", more=True)]
PictureWidth = Annotated[float | None, option("--width", "INCHES", "Width of a PNG, its text with it. [default: 6 to 14]", more=True)]
Dpi = Annotated[int, option("--dpi", "DPI", "Dots per inch of a PNG, and of images in an SVG or PDF.", more=True, least=20)]
Overwrite = Annotated[bool, flag("--overwrite", "Replace existing output.")]
PlanOnly = Annotated[bool, flag("--dry-run", "Show split, findings and recipe, and stop; a later run continues from there.")]
TestShare = Annotated[float | None, option("--test", "SHARE",
    "Share of each class to keep for testing, if the data have no split. [default: 0.2]")]
RunOverwrite = Annotated[bool, flag("--overwrite", "Start again: delete what an earlier run left in the folder.")]
Json = Annotated[bool, flag("--json", "Print one JSON document on standard output.")]
Quiet = Annotated[bool, flag("--quiet -q", "Print the result, warnings and errors only.", more=True)]
Verbose = Annotated[bool, flag("--verbose", "Also print the figures behind the result.", more=True)]
Csv = Annotated[bool, flag("--csv", "Print CSV on standard output: one line per image.")]
Version = Annotated[bool, flag("--version", "Print the versions of cnncodes and its libraries.")]

# Network, weights and computing
Network = Annotated[str | None, option("--model", "NETWORK",
    "Network, if the weights do not record it: alexnet, vgg16, torchvision/resnet50, ... (see 'networks list').")]
NewNetwork = Annotated[str | None, option("--model", "NETWORK", "Network to train. [default: alexnet]")]
TimedNetwork = Annotated[str, option("--model", "NETWORK", "Network to time: alexnet, vgg16, alexnet-tf, ...")]
Weights = Annotated[str, option("--weights", "WEIGHTS", WEIGHTS_HELP)]
StartWeights = Annotated[str | None, option("--weights", "WEIGHTS", "Initial weights: " + WEIGHTS_HELP + " [default: imagenet]")]
SeveralWeights = Annotated[list[str] | None, option("--weights", "WEIGHTS",
    "As for extract; repeatable. [default: imagenet, or those of the codes file]")]
RecordedWeights = Annotated[str | None, option("--weights", "WEIGHTS",
    "Current location of the weights. [default: as recorded in the file]")]
Classifier = Annotated[str, option("--weights", "WEIGHTS|MODEL", CLASSIFIER_HELP)]
OptionalClassifier = Annotated[str | None, option("--weights", "WEIGHTS|MODEL", CLASSIFIER_HELP + " [default: imagenet]")]
CodesClassifier = Annotated[str | None, option("--weights", "WEIGHTS|MODEL", CLASSIFIER_HELP +
    " [default: imagenet; with a codes file, the weights it records]")]
Device = Annotated[str, option("--device", "DEVICE", "auto (a GPU if available), cpu, cuda, cuda:N or mps.")]
Workers = Annotated[int | None, option("--workers", "N", "Decoding threads. [default: one per core]", more=True, least=1)]
Processes = Annotated[int, option("--processes", "N", more=True, least=1, text=
    "Worker processes that decode and compute, each with its share of the threads.")]
Ray = Annotated[str | None, option("--ray", "ADDRESS", more=True, text=
    "Compute on a Ray cluster: its address, auto (RAY_ADDRESS, or one that runs here), or local (a new one).")]
GpusPerWorker = Annotated[float | None, option("--gpus-per-worker", "X", more=True, text=
    "GPUs of each worker on Ray, also a part such as 0.5. [default: 1 where the cluster has GPUs]")]
Write = Annotated[str, option("--write", "HOW", more=True, text=
    "central (this process writes all codes) or in-place (workers of --processes and --ray write into the file, which they must see).")]
FitRay = Annotated[str | None, option("--ray", "ADDRESS", more=True, text=
    "Fit layers on a Ray cluster, --workers cores each: its address, auto, or local (a new one).")]
FitDevice = Annotated[str, option("--device", "DEVICE", "Where blocks of codes are computed, as for extract.", more=True)]
FitMemory = Annotated[str | None, option("--memory", "SIZE", more=True, text=
    "Read codes that take more than this in blocks: 2G, 500M. [default: half of the free memory]")]
FitWorkers = Annotated[int | None, option("--workers", "N", "Parallel fits. [default: one per core]", more=True, least=1)]
Precision = Annotated[str, option("--precision", "DTYPE", more=True, text=
    "Arithmetic of the network: float32, bfloat16 or float16 (faster on GPUs and on CPUs with AMX).")]
BatchSize = Annotated[int | None, option("--batch-size", "N", more=True, least=1, text=
    "Images per batch. [default: 16 to 64, by the number of images]")]
Seed = Annotated[int, option("--seed", "N", "Random seed.", more=True)]

# Codes files
Layers = Annotated[str | None, option("--layers", "LAYERS",
    "Layers to store: fc7, fc6,fc7, conv1-3, all; fc7:linear is the value before the ReLU. [default: fc7, or as --like]")]
OneLayer = Annotated[str | None, option("--layer", "LAYER", "Layer whose codes are compared. [default: fc7, or what the classifier reads]")]
SmallestGroup = Annotated[int | None, option("--smallest", "N", "Images of the smallest group. [default: one in thirty of all, at least 5]", least=2)]
Crops = Annotated[str, option("--crops", "CROPS", more=True, text=
    "center, mirror or ten (all kept), mirror-mean or ten-mean (codes averaged).")]
Fit = Annotated[str | None, option("--fit", "HOW",
    "How a photo becomes a square: crop (its centre), pad (all of it, the mean colour around it), squash (all of it, distorted) or "
    "ten (ten crops, averaged). [default: as recorded with the weights, mostly crop]")]
RunFit = Annotated[str | None, option("--fit", "crop|pad|squash|ten", "How a photo becomes a square, as for extract.", more=True)]
OneFit = Annotated[str | None, option("--fit", "HOW", more=True, text=
    "How a photo becomes a square: crop (its centre), pad (all of it, the mean colour around it) or squash (all of it, distorted). "
    "[default: as recorded with the weights, mostly crop]")]
Pool = Annotated[str | None, option("--pool", "HOW",
    "Pooling of maps and tokens: none, mean or max per channel, cls (first token). "
    "[default: none; mean for a torchvision or timm layer with over 20,000 numbers]")]
Dtype = Annotated[str, option("--dtype", "DTYPE", "Type of the stored codes: float32 or float16 (half the size).", more=True)]
Decoding = Annotated[str | None, option("--decoding", "HOW", more=True, text=
    "exact, box (resizes only the crop, at most one grey level off), reduced (large JPEGs at a smaller scale) or gpu (JPEGs by CUDA). "
    "[default: as recorded with the weights]")]
Limit = Annotated[int | None, option("--limit", "N", "Use only N images, evenly spread over the catalog.", more=True, least=1)]
From = Annotated[str | None, option("--from", "CODES", more=True, text=
    "Copy the codes of images that this codes file has (same content, weights and settings); compute only the others.")]
Shard = Annotated[str | None, option("--shard", "I/N", "Extract part I of N, such as 3/16; see 'cnncodes join'.", more=True)]
Like = Annotated[str | None, option("--like", "CODES", more=True, text=
    "Use weights and settings of this codes file, and its layers unless --layers is given.")]
DryRun = Annotated[bool, flag("--dry-run", "Show what would be done, and stop.")]
Strict = Annotated[bool, flag("--strict", "Stop with exit code 1 at the first unreadable image.", more=True)]
Retry = Annotated[bool, flag("--retry", "Try all unreadable images again, not only those whose files changed.", more=True)]
Virtual = Annotated[bool, flag("--virtual", "Refer to the parts, which must stay in place, instead of copying them.")]
CodesRoot = Annotated[str | None, option("--root", "FOLDER", "Current folder of the images. [default: as recorded in the file]")]
Sample = Annotated[int, option("--sample", "N", "Number of rows to extract again.", least=1)]
To = Annotated[str, option("--to", "FORMAT",
    "Codes: npy (names and labels in FILE.names.csv), csv, parquet or projector (TensorBoard). A model: onnx or torchscript.")]
ExportLayer = Annotated[str | None, option("--layer", "LAYER", "Layer to export. [default: the deepest]")]
InputSize = Annotated[int | None, option("--input", "PX", "Input size in pixels. [default: that of the network]")]

# Linear heads and their test
Layer = Annotated[str | None, option("--layer", "LAYER", "Layer to fit, or auto (the best by validation). [default: fc7]")]
HeadKind = Annotated[str | None, option("--head", "KIND", "svm (scores) or softmax (probabilities). [default: svm]")]
C = Annotated[str | None, option("--C", "C", "auto (1e-5 to 1e5), a value, or several to choose from: 0.1,1,10. [default: auto]")]
Folds = Annotated[int, option("--folds", "N", "Stratified folds for the choice of C.", more=True, least=2)]
Normalize = Annotated[str | None, option("--normalize", "HOW", "l2 (per image), standard (per column) or none. [default: l2]")]
ClassWeight = Annotated[str | None, option("--class-weight", "balanced", "balanced: weight classes equally, whatever their size.", more=True)]
SplitRule = Annotated[str, option("--split", "RULE",
    "auto (splits of the data, else a fifth of each class for testing), none (fit on all), or a share for testing: 0.3.")]
Shots = Annotated[str | None, option("--shots", "N,N", "Also report accuracy with N training images per class: 1,5,10.")]
Repeats = Annotated[int, option("--repeats", "N", "Random draws per value of --shots.", more=True, least=1)]
ExportModel = Annotated[str | None, option("--export", "FORMAT", "Also write the head as sklearn (skops file) or onnx.", more=True)]
Top = Annotated[int, option("--top", "N", "Classes per image, best first.", least=1)]
EvaluateSplit = Annotated[str, option("--split", "SPLIT",
    "auto (images the model was not fitted on: test, else val), all, train, val or test.")]
OtherCrops = Annotated[str | None, option("--crops", "CROPS", "center, mirror or ten (averaged). [default: those of the model]")]
ConfusionFile = Annotated[str | None, option("--confusion", "FILE", "Also draw the confusion matrix (.png, .svg or .pdf).")]
VerdictsFile = Annotated[str | None, option("--csv", "FILE",
    "Also write one line per image: true and predicted class, scores, margin; worst mistakes first.")]
Wide = Annotated[bool, flag("--wide", "With --csv: add a column with the probability of each class.", more=True)]
SortInto = Annotated[str | None, option("--sort-into", "FOLDER",
    "Also put links to the images into a folder per class, with unsure/, unlike/ and unreadable/.")]
Copy = Annotated[bool, flag("--copy", "With --sort-into: copy the images instead of linking to them.", more=True)]
Gallery = Annotated[str | None, option("--html", "FILE.html",
    "Also write a page of the images, most doubtful first, on which classes can be corrected and saved as CSV.")]
ShowScores = Annotated[bool, flag("--scores", "Print scores of the classifier instead of probabilities.")]

# Training and recipes
Models = Annotated[str, option("--models", "NETWORK[=WEIGHTS],...",
    "Networks, each with its own weights if given: alexnet,torchvision/resnet50=random:0 (see 'networks list').")]
EachWeights = Annotated[str, option("--weights", "WEIGHTS", "Weights of the networks named without any.")]
Recipes = Annotated[str, option("--recipes", "NAME|FILE,...",
    "Ways to train each network: linear (a head on its codes), finetune, or recipes ('cnncodes recipes list').")]
Recipe = Annotated[str | None, option("--recipe", "NAME|FILE", "Recipe to follow ('cnncodes recipes list'); other options override it.")]
RunRecipe = Annotated[str | None, option("--recipe", "NAME|FILE",
    "Recipe to follow ('cnncodes recipes list'). [default: the advised one]")]
Try = Annotated[str | None, option("--try", "all|NAME,...",
    "Also follow other recipes on the same split, and compare: all that suit the images, or names.")]
Set = Annotated[list[str] | None, option("--set", "SECTION.NAME=VALUE", more=True, text=
    "Override an entry of the recipe, such as train.learning_rate=0.001 or head.C=1; repeatable.")]
Freeze = Annotated[str | None, option("--freeze", "LAYERS", "Layers to keep fixed: conv1-3, conv, conv1-fc7, none. [default: none]")]
Epochs = Annotated[int | None, option("--epochs", "N", "Passes over the training images. [default: 10; train: 90]", least=1)]
StartHead = Annotated[str | None, option("--head", "MODEL", more=True, text=
    "Initialize the last layer from a head of 'cnncodes fit-linear' on codes of these weights.")]
KeepHead = Annotated[bool, flag("--keep-head", "Keep the last layer (the classes must be the same).", more=True)]
Activation = Annotated[str | None, option("--activation", "relu|tanh", "Activation of all layers. [default: relu]", more=True)]
TrainingBatch = Annotated[int | None, option("--batch-size", "N", "Images per step. [default: 32; train: 128]", more=True, least=1)]
TrainingSeed = Annotated[int | None, option("--seed", "N", "Random seed. [default: 0]", more=True)]
Resume = Annotated[bool, flag("--resume", "Continue the training in the output folder from its last step.")]
KeepCheckpoints = Annotated[bool, flag("--keep-checkpoints", "Keep the last checkpoint when training is finished.", more=True)]

# Advice
ThresholdsFile = Annotated[str | None, option("--thresholds", "FILE", more=True, text=
    "TOML file with other decision thresholds, such as large_images = 5000.")]
ProbeLayers = Annotated[str, option("--layers", "LAYERS", "all (every numbered layer, after its pooling), or fc6,fc7, conv1-3, ...")]
ProbeShots = Annotated[str, option("--shots", "N,N", "Training images per class; all is the whole train split.")]
Against = Annotated[list[str] | None, option("--against", "NAME,...",
    "Also probe: pixels (32 x 32), random:0, other weights, an HDF5 file with features of the same images.")]
ProbeNormalize = Annotated[str, option("--normalize", "HOW", "standard (per column), l2 (per image) or none.", more=True)]
ProbeC = Annotated[str, option("--C", "C", "auto (chosen by folds in each draw), or a value.", more=True)]
DrawsFile = Annotated[str | None, option("--csv", "FILE", "Also write every draw as CSV.")]
KeepCodes = Annotated[str | None, option("--keep", "FOLDER", "Keep the extracted codes here and use them next time.", more=True)]
TestLimit = Annotated[int, option("--limit", "N", "Test on at most N images, balanced over the classes.", more=True, least=1)]

# Benchmark
TimedBatch = Annotated[int, option("--batch-size", "N", "Images per batch.", least=1)]
Until = Annotated[str | None, option("--until", "LAYER", "Last layer to compute: pool5, fc8, ... [default: the network's last]")]
Compile = Annotated[bool, flag("--compile", "Use torch.compile (compilation time is reported separately).")]
EachStage = Annotated[bool, flag("--stages", "Also time the forward pass of each stage alone.")]
Steps = Annotated[int, option("--steps", "N", "Timed batches.", more=True, least=1)]
BurnIn = Annotated[int, option("--burn-in", "N", "Untimed batches before them.", more=True, least=0)]

# Weights files
Rank = Annotated[int | None, option("--rank", "R", "Store fully connected layers as two factors of rank R.", least=1)]
Int8 = Annotated[bool, flag("--int8", "Store 8-bit integers with scales: a quarter of the size.")]
Expand = Annotated[bool, flag("--expand", "Multiply factors out: torchvision's keys and shapes.")]
NewInput = Annotated[int | None, option("--input", "PX", "Input size: side of the square crop. [default: as recorded]")]
NewResize = Annotated[int | None, option("--resize", "PX",
    "Shorter side of the image before the crop. [default: in the same ratio to --input as before]")]
ClassNames = Annotated[str | None, option("--class-names", "FILE",
    "Class names, one per line in output order, or lines such as 'n01440764 tench' for classes with WordNet ids.")]

# Pictures
ShownLayer = Annotated[str, option("--layer", "LAYER", "Layer: conv1, pool5, fc7, ...; fc7:linear is before the ReLU.")]
MapLayer = Annotated[str | None, option("--layer", "LAYER",
    "Layer: conv1, pool5, fc7, ...; fc7:linear is before the ReLU. [default: the last convolution]")]
InvertLayers = Annotated[str | None, option("--layer", "LAYER,LAYER",
    "Layers, such as pool1,conv3,fc7 or conv1-5. [default: five from the first to the last]")]
ReluLayers = Annotated[str | None, option("--layer", "LAYER,LAYER", "Layers that end in a ReLU: conv1-5,fc7. [default: all of them]")]
GradcamLayer = Annotated[str | None, option("--layer", "LAYER",
    "Layer for Grad-CAM: a convolution or pooling layer. [default: the last convolution]")]
LayerOfCodes = Annotated[str | None, option("--layer", "LAYER",
    "Layer of the codes. [default: the layer that the model reads, else the deepest of the file or before the classifier]")]
ClassName = Annotated[str | None, option("--class", "CLASS", "Class to explain, by name or number. [default: the predicted class]")]
DenseClassName = Annotated[str | None, option("--class", "CLASS",
    "Class to map, by name or number. [default: the five that win at most positions]")]
Every = Annotated[bool, flag("--all", "Draw saliency, guided backpropagation, deconvolution and Grad-CAM in one picture.")]
Patch = Annotated[int, option("--patch", "PX", "Side of the grey patch in pixels.")]
Stride = Annotated[int, option("--stride", "PX", "Step of the patch in pixels.")]
MapSize = Annotated[int | None, option("--size", "PX", least=1, text=
    "Shorter side of the image after resizing. [default: 1.5 times the crop]")]
MapStep = Annotated[int | None, option("--step", "PX", least=1, text=
    "Step between positions: the stride of the last grid (AlexNet: 32) or a divisor of it. [default: 16]")]
Units = Annotated[str | None, option("--units", "UNIT,UNIT", "Unit numbers, counted from 0: 1,7,42. [default: selected by --count]")]
MostActive = Annotated[int | None, option("--count", "N", least=1, text=
    "Number of units, most active first. [default: 36 maps, or 10 bars of a fully connected layer]")]
MostVarying = Annotated[int, option("--count", "N", "Number of units: those that vary most over the images.", least=1)]
EachScale = Annotated[bool, flag("--each", "Scale each map separately, which makes weak ones visible.")]
ImagesEach = Annotated[int | None, option("-k", "N", least=1, text=
    "Images per unit. [default: 9; 6 where a unit sees a small part of an image]")]
Method = Annotated[str, option("--method", "METHOD", "tsne (keeps neighbourhoods), pca (largest variance) or umap (needs umap-learn).")]
Perplexity = Annotated[float, option("--perplexity", "N", "Effective number of neighbours: 5 to 50 (tsne, umap).", more=True)]
Points = Annotated[str | None, option("--points", "FILE", "Also draw the map as points.", more=True)]
OnlySplit = Annotated[str, option("--split", "SPLIT", "Images to use: all, train, val or test.", more=True)]
Queries = Annotated[list[str], option("--image", "IMAGE", "Image of the codes file, by its name there, or any image file; repeatable.")]
Nearest = Annotated[int | None, option("-k", "N", "Number of neighbours. [default: 6, or all if there are fewer]", least=1)]
Metric = Annotated[str, option("--metric", "METRIC", "Distance between codes: cosine or l2.")]
FoolTo = Annotated[str | None, option("--to", "CLASS",
    "Target class, by name or number. [default: the most probable class that is clearly behind]")]
FoolLimit = Annotated[int, option("--limit", "LEVELS", "Largest change of a pixel to try, in grey levels (1 to 255).")]
Confidence = Annotated[float, option("--confidence", "SHARE",
    "Probability to reach for the target class; 0: until it is the prediction.")]
KeepFooled = Annotated[str | None, option("--keep", "FILE.png", "Also write the adversarial image, at the size of the network's resizing.")]
Iterations = Annotated[int, option("--iterations", "N", "Optimization steps per layer.", least=1)]
AugmentRecipe = Annotated[str | None, option("--recipe", "NAME|FILE",
    "Training recipe whose augmentation to show ('cnncodes recipes list'). [default: that of finetune]")]
ViewCount = Annotated[int, option("--views", "N", "Number of augmented views.", least=1)]
# fmt: on
