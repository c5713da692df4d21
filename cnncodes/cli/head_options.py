"""What only the commands about heads take: `fit-linear`, `predict`, `evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncodes.cli.options import DATA_HELP

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model: the folder of a run, a file of 'run' or 'fit-linear', or a trained network.",
        show_default=False,
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
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots",
        metavar="N,N",
        help="Also: accuracy with so few images per class, such as 1,5,10.",
        show_default=False,
    ),
]
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
Csv = Annotated[bool, typer.Option("--csv", help="CSV on standard output: one line per image.")]
ModelsAndData = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL... DATA",
        help="One or more models (files of fit-linear, train or finetune, or folders of a run), and last the data. "
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
        help="Also write one line per image, right and wrong, the worst mistakes first: true and predicted class, "
        "scores, margin and, of a softmax head, probabilities.",
        show_default=False,
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
MapSize = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PX",
        min=1,
        help="Shorter side of the image after resizing; the larger, the larger things look to the network. "
        "[default: one and a half times its crop]",
        show_default=False,
    ),
]
MapStep = Annotated[
    int | None,
    typer.Option(
        "--step",
        metavar="PX",
        min=1,
        help="Pixels from one place to the next: the stride of the network's last grid (32 of an AlexNet), or a part of "
        "it, which needs more passes. [default: 16]",
        show_default=False,
    ),
]
Wide = Annotated[
    bool, typer.Option("--wide", help="With --csv: also a column with the probability of each class.")
]
SortInto = Annotated[
    str | None,
    typer.Option(
        "--sort-into",
        metavar="FOLDER",
        help="Also put links to the images into a folder per class, with unsure/, unlike/ and unreadable/.",
        show_default=False,
    ),
]
Copy = Annotated[bool, typer.Option("--copy", help="With --sort-into: copies instead of links.")]
ShowScores = Annotated[
    bool, typer.Option("--scores", help="Scores of the classifier instead of probabilities.")
]
