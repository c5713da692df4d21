"""`cnncodes finetune`: go on training a network on other images."""

from __future__ import annotations

from cnncodes.cli import options, training_options
from cnncodes.cli.choice import choose_recipe
from cnncodes.cli.console import Reporter
from cnncodes.cli.training import read_sets, report, watch


@options.takes_data
def finetune(
    data: options.Data,
    output: training_options.Run,
    recipe: options.Recipe = None,
    freeze: training_options.Freeze = None,
    weights: options.StartWeights = None,
    model: options.Network = None,
    epochs: training_options.Epochs = None,
    keep_head: training_options.KeepHead = False,
    head: training_options.StartHead = None,
    more: training_options.MoreData = None,
    split: options.SplitRule = "auto",
    set_: options.Set = None,
    seed: training_options.TrainingSeed = None,
    batch_size: training_options.TrainingBatch = None,
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: training_options.Resume = False,
    keep_checkpoints: training_options.KeepCheckpoints = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    *,
    reading: options.Reading,
) -> None:
    """Go on training a network on your images, all stages or only the later ones.

    The last layer is replaced for the new classes; the rate of pretrained stages is a tenth of its rate. What
    is saved is the epoch of the least val loss; it is tested once, at the end, on images that had no part in it: those of
    the data's own test split, else the same that 'cnncodes run' keeps to test. SIGTERM and Ctrl-C save, and --resume
    goes on at that step.

        cnncodes finetune photos/ --freeze conv1-3 -o run

        cnncodes finetune photos/ --recipe large-similar --epochs 5 -o run

        cnncodes finetune photos/ --head linear.safetensors -o run

        cnncodes extract photos/ -o codes.h5 --weights run/model.safetensors
    """
    from cnncodes.heads import load_model
    from cnncodes.training import finetune as finetune_network

    reporter = Reporter(json, quiet)
    chosen = choose_recipe(
        "finetune", recipe, set_,
        {"--freeze": ("train.freeze", freeze), "--weights": ("network.weights", weights),
         "--epochs": ("train.epochs", epochs), "--batch-size": ("train.batch_size", batch_size),
         "--seed": ("train.seed", seed)},
    )  # fmt: skip
    settings = chosen.training_settings()
    catalog = read_sets(reporter, data, more or [], reading)
    loaded = options.load_weights(reporter, chosen.weights, model)
    with watch(reporter, chosen, output) as shown:
        result = finetune_network(
            catalog, loaded, output, settings, keep_head=keep_head,
            head=load_model(head) if head else None, split=options.parse_split(split),
            device=device, workers=workers, resume=resume, keep_checkpoints=keep_checkpoints,
            **shown,
        )  # fmt: skip
    report(reporter, result, catalog)
