"""The script that a good PyTorch user writes: Dataset, DataLoader, create_feature_extractor, np.save.

Side (a) of benchmarks/extract.py. Prints one JSON line: images, seconds of the loop, images per second.
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
from torchvision.models import AlexNet_Weights, alexnet
from torchvision.models.feature_extraction import create_feature_extractor

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--weights", type=Path, required=True, help="state dict of torchvision's alexnet")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--device", default="cpu")
options = parser.parse_args()


class Photographs(Dataset):
    def __init__(self, folder):
        self.files = sorted(folder.rglob("*.jpg"))
        self.transform = AlexNet_Weights.IMAGENET1K_V1.transforms()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, row):
        return self.transform(Image.open(self.files[row]).convert("RGB"))


model = alexnet()
model.load_state_dict(torch.load(options.weights, weights_only=True))
extractor = create_feature_extractor(model.eval().to(options.device), {"classifier.5": "fc7"})
images = Photographs(options.folder)
loader = DataLoader(
    images,
    batch_size=options.batch_size,
    num_workers=options.workers,
    pin_memory=options.device != "cpu",
)
started = time.perf_counter()
with torch.inference_mode():
    codes = [extractor(batch.to(options.device, non_blocking=True))["fc7"].cpu().numpy() for batch in loader]
np.save(options.output, np.concatenate(codes))
seconds = time.perf_counter() - started
print(json.dumps({"images": len(images), "seconds": seconds, "images_per_second": len(images) / seconds}))
