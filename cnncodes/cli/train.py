"""`cnncodes train`: train a network from new numbers."""

from __future__ import annotations

from cnncodes.cli import options, training_options
from cnncodes.cli.choice import choose_recipe
from cnncodes.cli.console import Reporter
from cnncodes.cli.training import read_sets, report, watch


@options.takes_data
def train(
    data: options.Data,
    output: training_options.Run,
    recipe: options.Recipe = None,
    model: training_options.NewNetwork = None,
    activation: training_options.Activation = None,
    epochs: training_options.Epochs = None,
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
    """Train a network from new numbers, for those who have many images and a GPU.

    cnncodes train photos/ -o run --epochs 90 --set train.pca_noise=0.1

    cnncodes train photos/ -o run --recipe scratch

    cnncodes train birds/ --data flowers/ -o run
    """
    from cnncodes.networks import get_network
    from cnncodes.training import train as train_network

    reporter = Reporter(json, quiet)
    chosen = choose_recipe(
        "train", recipe, set_,
        {"--model": ("network.name", model), "--epochs": ("train.epochs", epochs),
         "--activation": ("network.activation", activation),
         "--batch-size": ("train.batch_size", batch_size), "--seed": ("train.seed", seed)},
    )  # fmt: skip
    settings = chosen.training_settings()
    network = get_network(chosen.network)
    catalog = read_sets(reporter, data, more or [], reading)
    with watch(reporter, chosen, output) as shown:
        result = train_network(
            catalog, network, chosen.images, output, settings, split=options.parse_split(split),
            device=device, workers=workers, resume=resume, keep_checkpoints=keep_checkpoints,
            **shown,
        )  # fmt: skip
    report(reporter, result, catalog)
