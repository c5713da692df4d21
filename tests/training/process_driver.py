"""Trains the tiny network as one of the processes that torchrun starts: data, folder, settings as JSON."""

import json
import sys

import torch
from conftest import tiny

from cnncodes.images import read_catalog
from cnncodes.networks import NETWORKS
from cnncodes.training import TrainingSettings, train
from cnncodes.weights.preprocessing import Preprocessing

if __name__ == "__main__":
    torch.set_num_threads(1)
    NETWORKS["tiny"] = tiny
    data, folder, settings = sys.argv[1:]
    train(
        read_catalog(data),
        tiny(),
        Preprocessing(resize=36, crop=32),
        folder,
        TrainingSettings(**json.loads(settings)),
        device="cpu",
    )
