"""The training loop that a good PyTorch user writes, after the manner of torchvision's reference: ImageFolder, DataLoader, SGD.

Side (a) of benchmarks/finetune.py. Prints one JSON line: seconds of each epoch, without the val pass, and the val accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import alexnet
from torchvision.transforms import v2

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path, help="with train/CLASS and val/CLASS")
parser.add_argument("--weights", type=Path, required=True, help="state dict of torchvision's alexnet")
parser.add_argument("--freeze", action="store_true", help="all convolutions")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--bfloat16", action="store_true")
parser.add_argument("--device", default="cpu")
options = parser.parse_args()

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
finish = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
train_set = ImageFolder(
    options.folder / "train",
    v2.Compose([v2.Resize(256), v2.CenterCrop(256), v2.RandomCrop(224), v2.RandomHorizontalFlip(), *finish]),
)
val_set = ImageFolder(options.folder / "val", v2.Compose([v2.Resize(256), v2.CenterCrop(224), *finish]))
keep = {"num_workers": options.workers, "persistent_workers": True, "pin_memory": options.device != "cpu"}
train_loader = DataLoader(train_set, options.batch_size, shuffle=True, **keep)
val_loader = DataLoader(val_set, options.batch_size, **keep)

torch.manual_seed(0)
model = alexnet()
model.load_state_dict(torch.load(options.weights, weights_only=True))
model.classifier[6] = nn.Linear(4096, len(train_set.classes))
if options.freeze:
    model.features.requires_grad_(False)
model.to(options.device)
parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9, weight_decay=0.0005)
loss_of = nn.CrossEntropyLoss()
amp = torch.autocast(options.device, torch.bfloat16, enabled=options.bfloat16)

seconds = []
for _ in range(options.epochs):
    model.train()
    started = time.perf_counter()
    for pixels, labels in train_loader:
        pixels, labels = pixels.to(options.device), labels.to(options.device)
        with amp:
            loss = loss_of(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    seconds.append(time.perf_counter() - started)
model.eval()
right = 0
with torch.inference_mode():
    for pixels, labels in val_loader:
        right += int((model(pixels.to(options.device)).argmax(1).cpu() == labels).sum())
print(json.dumps({"images": len(train_set), "seconds": seconds, "val_accuracy": right / len(val_set)}))
