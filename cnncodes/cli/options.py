"""Every option and argument, once: the same name, help and meaning in all commands. The door to typer."""

from __future__ import annotations

from typing import Annotated

import typer

Exit = typer.Exit
Typer = typer.Typer

DATA_HELP = (
    "A folder (class/x.jpg, or train|val|test/class/x.jpg), a list (path label), "
    "a CSV (filename,label[,split]), images or globs."
)

Data = Annotated[list[str], typer.Argument(metavar="DATA...", help=DATA_HELP, show_default=False)]
Codes = Annotated[
    str,
    typer.Argument(metavar="CODES", help="A codes file, made by 'cnncodes extract'.", show_default=False),
]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model file, made by 'cnncodes fit-linear'.", show_default=False),
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="What is written.", show_default=False)]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        metavar="STAGES",
        help="Stages to store: fc7, fc6,fc7, conv1-3, pool5, all; fc7:linear is the value before the ReLU.",
    ),
]
Network = Annotated[
    str | None,
    typer.Option("--model", metavar="NETWORK", help="Network, where the weights do not say: alexnet, caffenet, ..."),
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
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU if there is one.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Images per batch. [default: 16 to 64 by the number of images]", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Decoding threads. [default: one for each core]", show_default=False),
]
Crops = Annotated[
    str,
    typer.Option(
        "--crops",
        metavar="CROPS",
        help="center, mirror or ten (each kept), mirror-mean or ten-mean (their codes averaged).",
    ),
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="Of the stored codes: float32 or float16 (half the size).")]
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
        help="exact; box (resizes only the crop, at most one grey level away); reduced (large JPEGs at a smaller scale).",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only N images, spread evenly over the catalog.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it is there.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop with exit code 1 at the first unreadable image.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no advice, only the result and errors.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of everything drawn at random.")]
InputSize = Annotated[
    int | None, typer.Option("--input", metavar="PX", help="Input size in pixels. [default: the network's own]", show_default=False)
]
Like = Annotated[
    str | None,
    typer.Option("--like", metavar="CODES", help="Take layers, weights and all settings from another codes file.", show_default=False),
]
OptionalWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="WEIGHTS", help="Where the weights are now. [default: as the file says]", show_default=False),
]
Root = Annotated[
    str | None,
    typer.Option("--root", metavar="FOLDER", help="Where the images are now. [default: as the file says]", show_default=False),
]
Sample = Annotated[int, typer.Option("--sample", metavar="N", min=1, help="Number of rows.")]
