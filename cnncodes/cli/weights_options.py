"""What only `weights` and its subcommands take."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncodes.core.errors import OptionError

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
        "--bits",
        metavar="4..8",
        help="Bits per number: 8 and 7 lose next to nothing, see --table for the rest.",
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

NewInput = Annotated[
    int | None,
    typer.Option(
        "--input",
        metavar="PX",
        help="Another input size: the side of the square that the network sees. What 'describe' found holds for the old "
        "one and is left out. [default: as the weights say]",
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

SourceImages = Annotated[
    int,
    typer.Option(
        "--images", metavar="N", min=2, help="At most so many images are looked at, drawn at random."
    ),
]


def parse_rank(text: str) -> int | None:
    """``auto`` (None), or a number."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise OptionError(f"--rank '{text}' is no number.", "Use auto, or a number: --rank 128.") from None
