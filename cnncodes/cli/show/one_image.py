"""Pictures of one image, or of the weights alone: `cnncodes show filters`, `activations`, `occlude`, ..."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cnncodes import pictures
from cnncodes.cli import options
from cnncodes.cli.arguments import check_free
from cnncodes.cli.show.canvas import Canvas, NetworkChoice, file_word
from cnncodes.core.errors import OptionError
from cnncodes.core.words import counted, one_line, percent, shell

if TYPE_CHECKING:
    from cnncodes.pictures.attribution import Method


def filters(
    canvas: Canvas,
    weights: options.Classifier = "imagenet",
    model: options.Network = None,
    layer: options.ShownLayer = "conv1",
) -> None:
    """Draw the filters of a convolution.

    Filters of conv1 read pixels and are shown in colour: a trained network has edges and colour blobs there, an untrained one
    noise. Their numbers are those of 'show activations' and 'show strongest'. Later layers combine maps, so a part of their
    weights is drawn by channel; 'show strongest' shows what their units respond to.

        cnncodes show filters --weights starter
        cnncodes show filters --weights run/model.safetensors --layer conv2 -o conv2.png
    """
    canvas.open("filters")
    network = NetworkChoice(weights, model, "cpu")
    found = pictures.read_filters(network.load().weights, layer)
    record = {"weights": found.weights, "stage": found.stage, "shape": list(found.values.shape)}
    canvas.draw(lambda: pictures.draw_filters(found), record)
    if found.values.shape[1] == 3:
        canvas.next(f"cnncodes show activations photo.jpg {network.words} --layer {found.stage}")
    else:
        canvas.note("weights of later layers do not show what their units respond to")
        canvas.next(f"cnncodes show strongest photos/ {network.words} --layer {found.stage}")


def activations(
    canvas: Canvas,
    image: options.Image,
    network: NetworkChoice,
    layer: options.MapLayer = None,
    units: options.Units = None,
    count: options.MostActive = None,
    each: options.EachScale = False,
) -> None:
    """Draw the activations of a layer on an image.

    Maps are drawn as a grid, the most active first. Maps of conv1 still resemble the image; those of conv5 are dark except
    where the unit found its pattern; 'show strongest' with the numbers above the maps shows which pattern that is. Fully
    connected layers have no positions: all values in order of size and a few bars are drawn.

        cnncodes show activations photo.jpg --weights starter --layer conv1
        cnncodes show activations bee.jpg --weights run/model.safetensors --units 1,7,42 --each
    """
    from cnncodes.pictures.units import parse_units

    canvas.open("activations", image)
    wanted = parse_units(units, count)
    found = pictures.read_activations(*network.see(image), layer)
    record = found.to_json(wanted)
    units_of = f"{percent(found.firing)} of {len(found.values):,} units"
    canvas.result(f"{found.stage}: {units_of} {found.fires} on this image")
    canvas.crop(found.seen)
    canvas.draw(lambda: pictures.draw_activations(found, wanted, each), record)
    first = ",".join(str(entry["unit"]) for entry in record["units"][:3])
    canvas.next(f"cnncodes show strongest photos {network.words} --layer {found.stage} --units {first}")


def occlude(
    canvas: Canvas,
    image: options.Image,
    network: NetworkChoice,
    class_name: options.ClassName = None,
    patch: options.Patch = 32,
    stride: options.Stride = 8,
) -> None:
    """Draw how a grey patch on the image changes the class.

    Draws the probability of the class by the position of the patch (red: covering lowers it, blue: raises it) and the most
    probable class at each position (Zeiler and Fergus 2014, section 4.2). A network that looks at the object loses the
    class where the patch covers the object; one that loses it elsewhere has learned the background.

        cnncodes show occlude photo.jpg --weights starter
        cnncodes show occlude bee.jpg --weights run/model.safetensors --class bees --patch 48 --stride 12
    """
    canvas.open("occlude", image)
    classifier, seen = network.see(image)
    with canvas.steps("places") as progress:
        asked = {"patch": patch, "stride": stride}
        found = pictures.occlude(classifier, seen, class_name=class_name, **asked, progress=progress)
    canvas.question(found.question)
    canvas.draw(lambda: pictures.draw_occlusion(found), found)
    canvas.next(f"cnncodes show saliency {file_word(image)} {network.words} --all")


def _attribution(method: Method, text: str) -> Callable[..., None]:
    """One of four commands that take the same options and differ in their method."""

    def command(
        canvas: Canvas,
        image: options.Image,
        network: NetworkChoice,
        class_name: options.ClassName = None,
        layer: options.GradcamLayer = None,
        every: options.Every = False,
    ) -> None:
        if layer is not None and method != "gradcam" and not every:
            raise OptionError(
                f"--layer {layer} is for Grad-CAM: {method} goes back to the pixels.",
                "Leave it out, add --all, or use 'show gradcam'.",
            )
        canvas.open("attributions" if every else method, image)
        classifier, seen = network.see(image)
        if every:
            found = pictures.attribute_all(classifier, seen, class_name=class_name, layer=layer)
            draw = partial(pictures.draw_attributions, found)
        else:
            found = (pictures.attribute(classifier, seen, method, class_name=class_name, layer=layer),)
            draw = partial(pictures.draw_attribution, found[0])
        canvas.question(found[0].question)
        layers = [entry.layer for entry in found if entry.layer]
        methods = [entry.method for entry in found]
        canvas.draw(draw, found[0].question, methods=methods, layer=layers[0] if layers else None)
        name, option = ("occlude", "") if every else (method, " --all")
        asked = f" --class {shell(class_name)}" if class_name else ""
        canvas.next(f"cnncodes show {name} {file_word(image)} {network.words}{asked}{option}")

    command.__name__ = method
    command.__doc__ = text
    return command


_TEXTS: dict[Method, str] = {
    "saliency": """Draw which pixels change the class's score most.

    The largest magnitude of each pixel's gradient over red, green and blue (Simonyan et al. 2014), alone and over the image.
    It is the gradient of the score (the logit), not of the probability, which also changes when other classes do.

        cnncodes show saliency photo.jpg --weights starter
        cnncodes show saliency bee.jpg --weights run/model.safetensors --class bees --all
    """,
    "guided": """Draw guided backpropagation for a class.

    The gradient of the class's score, where every ReLU passes back only positive values (Springenberg et al. 2015). Outlines
    are clear, but similar for every class: 'show gradcam' and 'show occlude' tell classes apart better.

        cnncodes show guided photo.jpg --weights starter
        cnncodes show guided bee.jpg --weights run/model.safetensors --class bees -o guided.png
    """,
    "deconv": """Draw the deconvolution of a class down to pixels.

    Like 'show guided', but a ReLU passes back what is positive on the way back, whether or not it was active on the way
    forward (Zeiler and Fergus 2014). It shows less of this image and more of the network's general preferences.

        cnncodes show deconv photo.jpg --weights starter
        cnncodes show deconv photo.jpg --weights starter --class bee -o deconv.png
    """,
    "gradcam": """Draw which regions support a class, by Grad-CAM.

    The maps of one layer, weighted by how much the class's score rises with each on average (Selvaraju et al. 2017); positive
    values are laid over the image. Coarse (13 x 13 positions in AlexNet's conv5), but different for each class.

        cnncodes show gradcam photo.jpg --weights starter
        cnncodes show gradcam photo.jpg --weights starter --class bee --layer conv4 -o bee.png
    """,
}
ATTRIBUTIONS = {method: _attribution(method, text) for method, text in _TEXTS.items()}


def invert(
    canvas: Canvas,
    image: options.Image,
    network: NetworkChoice,
    layer: options.InvertLayers = None,
    iterations: options.Iterations = 150,
    seed: options.Seed = 0,
) -> None:
    """Rebuild an image from the code of a layer.

    Starting from noise, pixels are optimized until the layer gives the same code (Mahendran and Vedaldi 2015). Early layers
    keep nearly everything; late ones keep colours, texture and parts, but not their positions.

        cnncodes show invert photo.jpg --weights starter
        cnncodes show invert photo.jpg --weights run/model.safetensors --layer fc7 --iterations 300
    """
    from cnncodes.pictures.classifier import as_text
    from cnncodes.pictures.inversion import as_share, usual_stages

    canvas.open("invert", image)
    stages = usual_stages(network.load().weights.architecture) if layer is None else layer
    network.load().weights.architecture.select(stages)  # before the image is read
    classifier, seen = network.see(image)
    with canvas.steps("") as progress:
        found = pictures.invert(classifier, seen, stages, iterations, seed, progress)

    def prediction(answer: tuple[str, float]) -> str:
        return f"'{one_line(answer[0])}', {as_text(answer[1], found.unit)}"

    for part in found.parts:
        predicted = f"; prediction: {prediction(part.answer)}" if part.answer else ""
        canvas.result(f"{part.stage}: error of the code {as_share(part.error)}{predicted}")
    if found.answer:
        canvas.result(f"prediction for the image itself: {prediction(found.answer)}")
    canvas.note(found.meaning())
    canvas.crop(found.seen)
    canvas.draw(lambda: pictures.draw_inversions(found), found)
    canvas.next(f"cnncodes show fool {file_word(image)} {network.words}")


def fool(
    canvas: Canvas,
    image: options.Image,
    network: NetworkChoice,
    to: options.FoolTo = None,
    limit: options.FoolLimit = 32,
    confidence: options.Confidence = 0.9,
    keep: options.KeepFooled = None,
) -> None:
    """Find the smallest change that makes the network wrong.

    Takes many small steps along the sign of the gradient (Goodfellow et al. 2015) inside a box (Kurakin et al. 2017). Boxes
    are tried in whole grey levels; the smallest in which the other class reaches --confidence is shown. A few levels of
    255, which nobody sees, are usual.

    Without --to, the target is the most probable class that has less than half of the prediction's probability, since
    swapping two similar classes shows nothing. If there is none, and for the scores of an SVM, it is the second class.

        cnncodes show fool photo.jpg --weights starter
        cnncodes show fool bee.jpg --weights run/model.safetensors --to ants --keep fooled.png
    """
    from cnncodes.images.decode import write_png
    from cnncodes.pictures.classifier import ask
    from cnncodes.pictures.fooling import in_whole

    canvas.open("fool", image)
    if keep is not None:
        check_free(keep, canvas.overwrite, ".png", "an adversarial image", "--keep")
        if Path(keep).resolve() == canvas.path.resolve():
            raise OptionError(f"-o and --keep both name '{keep}'.", "Give the two files different names.")
    classifier, seen = network.see(image)
    with canvas.steps("") as progress:
        found = pictures.fool(classifier, seen, to, limit, confidence, progress)
    change = f"no pixel changes by more than {found.epsilon} of 255 grey levels"
    canvas.result(f"{one_line(found.describe())}: {change}")
    for caution in found.cautions:
        canvas.warn(f"beware: {one_line(caution)}")
    kept = {}
    if keep is not None:
        write_png(Path(keep), in_whole(found, image, classifier.preprocessing))
        again = ask(classifier, pictures.see_image(keep, classifier)).predicted
        kept = {"kept": keep, "kept_class": again}
        canvas.result(f"written: {keep}; read again, it is predicted as '{one_line(again)}'")
    canvas.draw(lambda: pictures.draw_fooled(found), found, **kept)
    canvas.next(f"cnncodes show saliency {file_word(keep or image)} {network.words}")


def dense(
    canvas: Canvas,
    image: options.Image,
    network: NetworkChoice,
    class_name: options.DenseClassName = None,
    size: options.MapSize = None,
    step: options.MapStep = None,
) -> None:
    """Draw a heat map of classes over a larger image.

    The fully connected layers become convolutions over the last grid (CS231n; Sermanet et al. 2014), so all positions share
    their computation. Each value is exactly that of the classifier on its window of the grid. Draws one heat map per class:
    that of --class, else of the five that win at most positions.

        cnncodes show dense photo.jpg --weights starter
        cnncodes show dense bees.jpg --weights run/model.safetensors --class bees --size 384
    """
    canvas.open("dense", image)
    classifier = network.load()
    with canvas.progress("computing all positions", 1):
        found = pictures.dense_map(classifier, image, size, step=step, class_name=class_name)
    rows, columns = found.values.shape[1:]
    canvas.result(
        one_line(f"{rows} x {columns} positions, {found.step} px apart: {found.describe()} of the windows")
    )
    if found.doubt:
        canvas.warn(f"beware: {one_line(found.doubt)}")
    canvas.draw(lambda: pictures.draw_dense(found), found)
    canvas.next(f"cnncodes show occlude {file_word(image)} {network.words}")


def augment(
    canvas: Canvas,
    image: options.Image,
    weights: options.StartWeights = None,
    model: options.Network = None,
    recipe: options.AugmentRecipe = None,
    set_: options.Set = None,
    count: options.ViewCount = 5,
    seed: options.TrainingSeed = None,
) -> None:
    """Draw the augmented views of an image used in training.

    In every epoch a network sees another view of each image (Krizhevsky et al. 2012, section 4.1). These are the views of
    'cnncodes finetune' with the same weights, or of a recipe: one view per column, one step per row. Check that the object
    is still visible and still correct: crops that miss it, or mirrored text, teach something wrong.

        cnncodes show augment photo.jpg --weights starter
        cnncodes show augment photo.jpg --recipe alexnet-2012
        cnncodes show augment photo.jpg --recipe scratch --set train.crop_area=0.2 --seed 3
    """
    from cnncodes.advice import load_recipe, plain_recipe

    canvas.open("augment", image)
    given = {} if seed is None else {"--seed": f"train.seed={seed}"}
    if weights is not None:
        given["--weights"] = f"network.weights={weights}"
    if recipe is None:
        chosen = plain_recipe("finetune", set_ or (), options=given)
    else:
        chosen = load_recipe(recipe, set_ or (), options=given)
    found = pictures.augment_by(image, chosen, network=model, count=count)
    command = "finetune" if chosen.method == "finetune" else "train"
    named = [] if recipe is None else ["--recipe", recipe]
    named += ["--weights", chosen.weights] if weights is not None or recipe is None else []
    canvas.result(f"{counted(len(found.views), 'view')}: {found.describe()}")
    if found.settings.mixup:
        canvas.note("mixup is not shown: it needs other images")
    draw = partial(pictures.draw_augment, found, " ".join([command, *named]))
    canvas.draw(draw, found, command=command, recipe=recipe)
    words = [*named, *(["--model", model] if model else [])]
    canvas.next(f"cnncodes {command} photos/ -o run {' '.join(map(shell, words))}")
