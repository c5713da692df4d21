"""What only the commands about codes files take: `extract`, `check`, `info`, `export`."""

from __future__ import annotations

from typing import Annotated

import typer

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
Pool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="HOW",
        help="What becomes of maps and tokens: none (kept whole), mean or max of each channel, cls (the first token). "
        "[default: none; mean for a library's network with over 20,000 numbers in a layer]",
        show_default=False,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only part I of N, such as 3/16: one job of many. 'cnncodes join' puts the parts together.",
        show_default=False,
    ),
]
Virtual = Annotated[
    bool, typer.Option("--virtual", help="Refer to the parts instead of copying them: they must stay there.")
]
Parts = Annotated[
    list[str],
    typer.Argument(
        metavar="PARTS...", help="Codes files that 'cnncodes extract --shard' made.", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop with exit code 1 at the first unreadable image.")
]
Retry = Annotated[
    bool,
    typer.Option(
        "--retry",
        help="Try every unreadable image of the output again, not only those whose files have changed.",
    ),
]
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
        help="A codes file, a model, a run's folder, or a network: alexnet, alexnet2012, bvlc_alexnet, caffenet, vgg16, alexnet-tf.",
        show_default=False,
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FORMAT",
        help="npy (with the names and labels of its rows in codes.names.csv beside codes.npy), csv, parquet or projector (TensorBoard's).",
        show_default=False,
    ),
]
OptionalLayer = Annotated[
    str | None,
    typer.Option(
        "--layer", metavar="STAGE", help="One layer of the file. [default: the deepest]", show_default=False
    ),
]
