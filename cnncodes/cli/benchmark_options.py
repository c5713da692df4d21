"""What only `benchmark` takes."""

from __future__ import annotations

from typing import Annotated

import typer

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
