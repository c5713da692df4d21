"""What only `weights` and its subcommands take."""

from __future__ import annotations

from typing import Annotated

import typer

WeightsName = Annotated[
    str, typer.Argument(metavar="WEIGHTS", help="imagenet, random:SEED, or a file.", show_default=False)
]
Pattern = Annotated[
    str,
    typer.Argument(
        metavar="PATTERN", help="A part of the name, or a pattern with * and ?.", show_default=False
    ),
]
Rank = Annotated[
    int | None,
    typer.Option(
        "--rank",
        metavar="R",
        min=1,
        help="Store fully connected matrices as two factors of rank R.",
        show_default=False,
    ),
]
Int8 = Annotated[bool, typer.Option("--int8", help="Store 8-bit integers and scales: a quarter of the size.")]
Expand = Annotated[
    bool, typer.Option("--expand", help="Multiply factors out: the keys and shapes that torchvision has.")
]
NewInput = Annotated[
    int | None,
    typer.Option(
        "--input",
        metavar="PX",
        help="Another input size: the side of the square that the network sees. "
        " [default: as the weights say]",
        show_default=False,
    ),
]
NewResize = Annotated[
    int | None,
    typer.Option(
        "--resize",
        metavar="PX",
        help="Shorter side of a picture before the square is cut. [default: in the same ratio to --input as before]",
        show_default=False,
    ),
]
ClassNames = Annotated[
    str | None,
    typer.Option(
        "--class-names",
        metavar="FILE",
        help="Names for the classes, one a line, in the order of the network's outputs; or lines such as "
        "'n01440764 tench', where the weights know their classes by WordNet id.",
        show_default=False,
    ),
]
