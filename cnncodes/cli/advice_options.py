"""What only the commands that advise take: `advise`, `probe`, `recipes`, `run`."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncodes.cli.options import DATA_HELP

LabelledData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...", help=DATA_HELP.replace("images or globs", "or one codes file"), show_default=False
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
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show split, findings and recipe, and stop; the run continues from there later."
    ),
]
TestShare = Annotated[
    float | None,
    typer.Option(
        "--test",
        metavar="SHARE",
        help="Share of each class to keep for the test, if the images have no split. [default: 0.2]",
        show_default=False,
    ),
]
RunOverwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Start anew: take away what the run in the folder has left. Other files there stay.",
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
        help="To compare with: pixels (32 x 32), random:0, other weights, "
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
FinishedRun = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder of a finished 'cnncodes run'.", show_default=False)
]
PageOutput = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE.html",
        help="What is written. [default: RUN/report.html]",
        show_default=False,
    ),
]
PageTitle = Annotated[
    str | None,
    typer.Option(
        "--title",
        metavar="TEXT",
        help="At the top of the page. [default: the folder's name]",
        show_default=False,
    ),
]
