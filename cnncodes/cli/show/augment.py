"""`cnncodes show augment`: what the augmentation of a training makes of an image."""

from __future__ import annotations

from cnncodes.cli import options, show_options, training_options
from cnncodes.cli.console import Reporter, shell
from cnncodes.cli.show.common import finish, picture_path


def augment(
    image: show_options.Image,
    recipe: show_options.AugmentRecipe = "alexnet-2012",
    set_: options.Set = None,
    count: show_options.ViewCount = 24,
    seed: training_options.TrainingSeed = None,
    output: show_options.Picture = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """What training makes of an image: random crops, mirror images, other colours.

    In every epoch a network sees another view of each image, so that it does not learn images by heart (Krizhevsky
    et al. 2012, section 4.1). Look whether the thing is still there and still itself: crops that miss it, or mirrors
    of what has a left and a right, such as text, teach something wrong.

        cnncodes show augment photo.jpg

        cnncodes show augment photo.jpg --recipe scratch --set train.crop_area=0.2 --seed 3
    """
    from cnncodes.advice import load_recipe
    from cnncodes.pictures.augmentation import augment as compute
    from cnncodes.pictures.augmentation import draw_augment

    reporter = Reporter(json, quiet)
    path = picture_path(output, "augment", overwrite, image)
    given = {} if seed is None else {"--seed": f"train.seed={seed}"}
    chosen = load_recipe(recipe, set_ or (), options=given)
    found = compute(image, chosen.training_settings(), chosen.images, count=count)
    reporter.result(f"{len(found.views)} views: {found.describe()}")
    if found.settings.mixup:
        reporter.note("mixup is not shown: it needs other images")
    finish(reporter, draw_augment(found, recipe), path, {"recipe": recipe, **found.to_json()})
    command = "finetune" if chosen.method == "finetune" else "train"
    reporter.next(f"cnncodes {command} photos/ -o run --recipe {shell(recipe)}")
