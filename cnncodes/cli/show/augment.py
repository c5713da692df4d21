"""`cnncodes show augment`: what the augmentation of a training makes of an image."""

from __future__ import annotations

from cnncodes.cli import options, show_options, training_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import finish, picture_path
from cnncodes.core.words import counted, shell


def augment(
    image: show_options.Image,
    weights: options.StartWeights = None,
    network: options.Network = None,
    recipe: show_options.AugmentRecipe = None,
    set_: options.Set = None,
    count: show_options.ViewCount = 5,
    seed: training_options.TrainingSeed = None,
    output: show_options.Picture = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What training makes of an image: random crops, mirror images, other colours.

    In every epoch a network sees another view of each image, so that it does not learn images by heart (Krizhevsky
    et al. 2012, section 4.1). These are the views of 'cnncodes finetune' with the same weights, or of a recipe; each
    column is one view, each row a step. Look whether the thing is still there and still itself: crops that miss it, or
    mirrors of what has a left and a right, such as text, teach something wrong.

        cnncodes show augment photo.jpg --weights starter

        cnncodes show augment photo.jpg --recipe alexnet-2012

        cnncodes show augment photo.jpg --recipe scratch --set train.crop_area=0.2 --seed 3
    """
    from cnncodes.advice import load_recipe, plain_recipe
    from cnncodes.pictures.augmentation import augment_by, draw_augment

    reporter = Reporter(json, quiet)
    path = picture_path(output, "augment", overwrite, image)
    given = {} if seed is None else {"--seed": f"train.seed={seed}"}
    if weights is not None:
        given["--weights"] = f"network.weights={weights}"
    if recipe is None:
        chosen = plain_recipe("finetune", set_ or (), options=given)
    else:
        chosen = load_recipe(recipe, set_ or (), options=given)
    found = augment_by(image, chosen, network=network, count=count)
    command = "finetune" if chosen.method == "finetune" else "train"
    named = [] if recipe is None else ["--recipe", recipe]
    named += ["--weights", chosen.weights] if weights is not None or recipe is None else []
    reporter.result(f"{counted(len(found.views), 'view')}: {found.describe()}")
    if found.settings.mixup:
        reporter.note("mixup is not shown: it needs other images")
    whose = " ".join([command, *named])
    finish(
        reporter, draw_augment(found, whose), path, {"command": command, "recipe": recipe, **found.to_json()}
    )
    words = [shell(word) for word in named] + ([f"--model {shell(network)}"] if network else [])
    reporter.next(f"cnncodes {command} photos/ -o run {' '.join(words)}")
