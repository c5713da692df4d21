"""Trains the tiny network as one of several processes: data, folder, settings as JSON.

torchrun starts it once for each process. With ``--fork 2`` before the rest it starts two by itself, in torchrun's way, from
one that has imported torch already: for tests of what the processes do, not of how they are started.
"""

import json
import os
import socket
import sys

import torch
from conftest import tiny

from cnncodes.images import read_catalog
from cnncodes.networks import NETWORKS
from cnncodes.training import TrainingSettings, train
from cnncodes.weights.preprocessing import Preprocessing


def run(data: str, folder: str, settings: str) -> None:
    torch.set_num_threads(1)
    NETWORKS["tiny"] = tiny
    train(
        read_catalog(data),
        tiny(),
        Preprocessing(resize=36, crop=32),
        folder,
        TrainingSettings(**json.loads(settings)),
        device="cpu",
    )


def fork(count: int, words: list[str]) -> int:
    """Run in so many processes; the number of them that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    children = []
    for rank in range(count):
        child = os.fork()
        if not child:
            os.environ.update(meeting, WORLD_SIZE=str(count), RANK=str(rank), LOCAL_RANK=str(rank))
            run(*words)
            os._exit(0)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    _, *words = sys.argv
    if words[0] == "--fork":
        sys.exit(fork(int(words[1]), words[2:]))
    run(*words)
