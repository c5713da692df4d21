"""What the commands of `cnncodes show` take: an image, a network, a layer, and where the picture goes."""

from __future__ import annotations

from typing import Annotated

import typer

Image = Annotated[
    str, typer.Argument(metavar="IMAGE", help="A photograph: JPEG, PNG, WebP, ...", show_default=False)
]
Classifier = Annotated[
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
        help="The picture. [default: the command's name and the image's, in this folder]",
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
DenseClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="The class whose map is drawn, by name or number. [default: the five that are the largest at most places]",
        show_default=False,
    ),
]
Every = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Saliency, guided backpropagation, deconvolution and Grad-CAM in one picture.",
    ),
]
GradcamLayer = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="LAYER",
        help="Of Grad-CAM: a convolution or pooling stage. [default: the last convolution that the classifier stands on]",
        show_default=False,
    ),
]
Patch = Annotated[int, typer.Option("--patch", metavar="PX", help="Side of the grey patch in pixels.")]
Stride = Annotated[
    int, typer.Option("--stride", metavar="PX", help="Pixels from one place of the patch to the next.")
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="tsne (keeps neighbours together), pca (keeps the directions of the largest variance), or umap, "
        "if umap-learn is installed.",
    ),
]
Perplexity = Annotated[
    float,
    typer.Option(
        "--perplexity",
        metavar="N",
        help="About how many neighbours of each image count: 5 to 50 (tsne, umap).",
    ),
]
Points = Annotated[
    str | None,
    typer.Option(
        "--points",
        metavar="FILE.png",
        help="Also draw the same map with a point for each image.",
        show_default=False,
    ),
]
OnlySplit = Annotated[
    str, typer.Option("--split", metavar="SPLIT", help="Which images: all, train, val or test.")
]
Queries = Annotated[
    list[str],
    typer.Option(
        "--image",
        metavar="IMAGE",
        help="An image of the codes file, by its name there, or any other photograph; can be repeated.",
        show_default=False,
    ),
]
Nearest = Annotated[
    int | None,
    typer.Option(
        "-k", metavar="N", min=1, help="How many neighbours. [default: 6, or all where there are fewer]", show_default=False
    ),
]  # fmt: skip
Metric = Annotated[
    str,
    typer.Option("--metric", metavar="METRIC", help="Between codes: cosine (their direction alone) or l2."),
]
FoolTo = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="CLASS",
        help="The class that it shall be taken for, by name or number. [default: the most probable one that is clearly behind]",
        show_default=False,
    ),
]
Limit = Annotated[
    int,
    typer.Option(
        "--limit", metavar="LEVELS", help="Largest change of a pixel that is tried, of 255 grey levels."
    ),
]
Confidence = Annotated[
    float,
    typer.Option(
        "--confidence",
        metavar="SHARE",
        help="Go on until the other class has this probability; 0: until it is the answer, as for an SVM's scores.",
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="FILE.png",
        help="Also write the image that fools, in the size that it is resized to, so that reading it changes no pixel.",
        show_default=False,
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        "--layer", metavar="LAYER,LAYER", help="One or more stages, such as pool1,conv3,fc7 or conv1-5."
    ),
]
Iterations = Annotated[
    int, typer.Option("--iterations", metavar="N", min=1, help="Steps of the descent, for each layer.")
]
Units = Annotated[
    str | None,
    typer.Option(
        "--units",
        metavar="UNIT,UNIT",
        help="Which units, by their numbers from 0: 1,7,42. [default: those that --count takes]",
        show_default=False,
    ),
]
MostActive = Annotated[
    int | None,
    typer.Option(
        "--count",
        metavar="N",
        min=1,
        help="How many units, the most active first.",
        show_default="36 maps, or 10 bars of a fully connected layer",
    ),
]
EachScale = Annotated[
    bool,
    typer.Option(
        "--each", help="Scale every map alone, so that weak ones can be seen too; by default all share one."
    ),
]
DataOrCodes = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA|CODES|RUN...",
        help="Images (a folder, a list, a CSV, images or globs), a codes file that has the layer, or the folder of a "
        "run.",
        show_default=False,
    ),
]
CodesOrData = Annotated[
    list[str],
    typer.Argument(
        metavar="CODES|RUN|DATA...",
        help="A codes file, the folder of a run, or images (a folder, a list, a CSV, images or globs), whose codes "
        "are computed first and not kept.",
        show_default=False,
    ),
]
LayerOfCodes = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="STAGE",
        help="Whose codes. [default: the layer that the model of a run, or of --weights, reads; else the deepest of "
        "the codes file; else the deepest before the classifier]",
        show_default=False,
    ),
]
WeightsOfNew = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS|MODEL",
        help="The network, for images: imagenet, starter, random:SEED, a weights file, or a model of 'run' or "
        "'fit-linear'. [default: imagenet] With a codes file: where its weights are now. [default: as it says]",
        show_default=False,
    ),
]
OptionalSubject = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS|MODEL",
        help="The network, for images: imagenet, starter, random:SEED, a weights file, or a model of 'run' or "
        "'fit-linear'. [default: imagenet]",
        show_default=False,
    ),
]
MostVarying = Annotated[
    int,
    typer.Option("--count", metavar="N", min=1, help="How many units: those that vary most over the images."),
]
ImagesEach = Annotated[
    int | None,
    typer.Option(
        "-k", metavar="N", min=1,
        help="How many images for each unit. [default: 9; 6 where a unit sees little of an image]", show_default=False,
    ),
]  # fmt: skip
ReluLayers = Annotated[
    str | None,
    typer.Option(
        "--layer",
        metavar="LAYER,LAYER",
        help="Stages that end in a ReLU, such as conv1-5,fc7. [default: all of them]",
        show_default=False,
    ),
]
AugmentRecipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="Whose augmentation: a recipe that trains, see 'cnncodes recipes list'. [default: what finetune does without one]",
        show_default=False,
    ),
]
ViewCount = Annotated[int, typer.Option("--views", metavar="N", min=1, help="How many views.")]
