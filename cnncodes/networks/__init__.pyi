"""The public names of this room, and where each lives."""

from cnncodes.networks.arithmetic import ReceptiveField, StageRow, StageTable, receptive_fields, stage_table
from cnncodes.networks.definitions import NETWORKS, TANH, get_network
from cnncodes.networks.network import Network, parse_stages, torchvision_spellings
from cnncodes.networks.stages import (
    Convolution,
    Linear,
    LocalResponseNorm,
    MaxPool,
    Shape,
    Stage,
    channel_axis,
)
from cnncodes.networks.torch_network import TorchNetwork

__all__ = [
    "NETWORKS",
    "TANH",
    "Convolution",
    "Linear",
    "LocalResponseNorm",
    "MaxPool",
    "Network",
    "ReceptiveField",
    "Shape",
    "Stage",
    "StageRow",
    "StageTable",
    "TorchNetwork",
    "channel_axis",
    "get_network",
    "parse_stages",
    "receptive_fields",
    "stage_table",
    "torchvision_spellings",
]
