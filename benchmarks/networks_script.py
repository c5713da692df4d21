"""What a good PyTorch user writes for any network: Dataset, DataLoader, the network without its classifier, np.save.

The other side of benchmarks/networks.py. Prints one JSON line: images, seconds of the loop, images per second.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--model", required=True, help="torchvision/NAME or timm/NAME, with random weights")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=64)
options = parser.parse_args()

library, _, name = options.model.partition("/")
if library == "timm":
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(name, num_classes=0)
    transform = create_transform(**resolve_data_config({}, model=model))
else:
    import torchvision

    model = torchvision.models.get_model(name)
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    *_, classifier = (key for key, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    owner, _, place = classifier.rpartition(".")
    setattr(model.get_submodule(owner), place, torch.nn.Identity())


class Photographs(Dataset):
    def __init__(self, folder):
        self.files = sorted(folder.rglob("*.jpg"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, row):
        return transform(Image.open(self.files[row]).convert("RGB"))


images = Photographs(options.folder)
loader = DataLoader(images, batch_size=options.batch_size, num_workers=options.workers)
model.eval()
started = time.perf_counter()
with torch.inference_mode():
    codes = [model(batch).numpy() for batch in loader]
np.save(options.output, np.concatenate(codes))
seconds = time.perf_counter() - started
print(json.dumps({"images": len(images), "seconds": seconds, "images_per_second": len(images) / seconds}))
