"""`cnncodes train`: train a network from new numbers."""

from __future__ import annotations

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.cli.training import parse_settings, report, watch


def train(
    data: options.Data,
    output: options.Run,
    model: options.NewNetwork = "alexnet",
    epochs: options.Epochs = 90,
    split: options.SplitRule = "auto",
    set_: options.Set = None,
    seed: options.Seed = 0,
    batch_size: options.TrainingBatch = 128,
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: options.Resume = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network from new numbers, for those who have many images and a GPU.

    cnncodes train photos/ -o run --epochs 90 --set train.pca_noise=0.1
    """
    import dataclasses

    from cnncodes.images import read_catalog
    from cnncodes.networks import get_network
    from cnncodes.training import train as train_network
    from cnncodes.weights import TORCHVISION_PREPROCESSING

    reporter = Reporter(json, quiet)
    network = get_network(model)
    settings = parse_settings(
        {"epochs": epochs, "batch_size": batch_size, "seed": seed, "middle_rate": 1.0, "early_rate": 1.0},
        set_ or [],
    )
    preprocessing = dataclasses.replace(TORCHVISION_PREPROCESSING, crop=network.input_size)
    catalog = read_catalog(data)
    with watch(reporter, settings) as (ready, progress):
        result = train_network(
            catalog, network, preprocessing, output, settings, split=options.parse_split(split),
            device=device, workers=workers, resume=resume, ready=ready, progress=progress,
        )  # fmt: skip
    report(reporter, result)
