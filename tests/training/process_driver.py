"""Trains the tiny network as one of several processes, once for each job: data, folder, settings; a list of them as JSON."""

import json
import sys

import torch
from conftest import tiny

from cnncodes.images import read_catalog
from cnncodes.networks import NETWORKS
from cnncodes.training import TrainingSettings, train
from cnncodes.weights.preprocessing import Preprocessing

torch.set_num_threads(1)
NETWORKS["tiny"] = tiny
assert "tensorboard" not in sys.modules, "it takes seconds, and one process of several writes"
for data, folder, settings in json.loads(sys.argv[1]):
    pixels = Preprocessing(resize=36, crop=32)
    train(read_catalog(data), tiny(), pixels, folder, TrainingSettings(**settings), device="cpu")
