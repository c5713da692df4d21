"""What the commands of `cnncodes show` take: an image, a network, a layer, and where the picture goes."""

from __future__ import annotations

from typing import Annotated

import typer

Image = Annotated[
    str, typer.Argument(metavar="IMAGE", help="A photograph: JPEG, PNG, WebP, ...", show_default=False)
]
Subject = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="WEIGHTS|MODEL",
        help="The network: imagenet, starter, random:SEED, a weights file, or a model of 'run' or 'fit-linear', "
        "whose classes are asked then.",
    ),
]
Layer = Annotated[
    str,
    typer.Option(
        "--layer", metavar="LAYER", help="A stage: conv1, pool5, fc7, ...; fc7:linear is before the ReLU."
    ),
]
Picture = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE.png",
        help="The picture. [default: the command's name, in this folder]",
        show_default=False,
    ),
]
ClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="The class that is asked about, by name or number. [default: the predicted one]",
        show_default=False,
    ),
]
