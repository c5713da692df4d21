"""What only `train` and `finetune` take."""

from __future__ import annotations

from typing import Annotated

import typer

Run = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="The run: model, metrics, curves.", show_default=False
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
KeepCheckpoints = Annotated[
    bool,
    typer.Option(
        "--keep-checkpoints", help="Keep the last checkpoint of a finished run; by default all are deleted."
    ),
]
NewNetwork = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NETWORK",
        help="alexnet, alexnet2012, caffenet, vgg16, ... [default: alexnet]",
        show_default=False,
    ),
]
