"""Trains the tiny network as one of several processes: data, folder, settings as JSON."""

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
_, data, folder, settings = sys.argv
pixels, chosen = Preprocessing(resize=36, crop=32), TrainingSettings(**json.loads(settings))
train(read_catalog(data), tiny(), pixels, folder, chosen, device="cpu")
