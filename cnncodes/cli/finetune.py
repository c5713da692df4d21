"""`cnncodes finetune`: go on training a network on other images."""

from __future__ import annotations

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.cli.training import parse_settings, report, watch


def finetune(
    data: options.Data,
    output: options.Run,
    freeze: options.Freeze = "none",
    weights: options.Weights = "imagenet",
    model: options.Network = None,
    epochs: options.Epochs = 10,
    keep_head: options.KeepHead = False,
    split: options.SplitRule = "auto",
    set_: options.Set = None,
    seed: options.Seed = 0,
    batch_size: options.TrainingBatch = 32,
    device: options.Device = "auto",
    workers: options.Workers = None,
    resume: options.Resume = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on training a network on your images, all stages or only the later ones.

    The last layer is replaced for the new classes; the rate of pretrained stages is a tenth of its rate. What
    is saved is the epoch of the least val loss. SIGTERM and Ctrl-C save, and --resume goes on at that step.

        cnncodes finetune photos/ --freeze conv1-3 -o run

        cnncodes extract photos/ -o codes.h5 --weights run/model.safetensors
    """
    from cnncodes.images import read_catalog
    from cnncodes.training import finetune as finetune_network
    from cnncodes.weights import load_weights

    reporter = Reporter(json, quiet)
    settings = parse_settings(
        {"freeze": freeze, "epochs": epochs, "batch_size": batch_size, "seed": seed}, set_ or []
    )
    catalog = read_catalog(data)
    loaded = load_weights(weights, network=model)
    with watch(reporter, settings) as (ready, progress):
        result = finetune_network(
            catalog, loaded, output, settings, keep_head=keep_head, split=options.parse_split(split),
            device=device, workers=workers, resume=resume, ready=ready, progress=progress,
        )  # fmt: skip
    report(reporter, result)
