"""The two networks that the student imitates, rebuilt as plain modules so that they compute in bfloat16."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _load(program: Path) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(program, map_location="cpu")


class AlexNetTeacher(nn.Module):
    """The convolutions of the AlexNet of 2012, in two towers: pixels in 0..1 [N, 3, 227, 227] -> pool2, conv3, conv5.

    Local response normalisation is a 1 x 1 convolution of squares with a band matrix: several times as fast on a CPU
    as ``F.local_response_norm``, and equal to it.
    """

    def __init__(self, program: Path) -> None:
        super().__init__()
        numbers = dict(_load(program).named_buffers())
        for stage in range(1, 6):
            weight = numbers[f"w{stage}"].float() / 128
            if stage == 1:  # RGB in 0..1 instead of BGR in 0..255 around a mean
                weight = weight.flip(1) * 255
            self.register_buffer(f"w{stage}", weight.contiguous(memory_format=torch.channels_last))
            self.register_buffer(f"b{stage}", numbers[f"b{stage}"].float())
        self.register_buffer("mean", numbers["mean"].float().flip(1) / 255)
        for name, channels in (("band1", 96), ("band2", 256)):
            place = torch.arange(channels)
            near = ((place[:, None] - place[None, :]).abs() <= 2).float() * (1e-4 / 5)
            self.register_buffer(name, near[:, :, None, None])

    @staticmethod
    def _normalise(values: Tensor, band: Tensor) -> Tensor:
        root = F.conv2d(values * values, band).add_(1).rsqrt_()
        return root.sqrt().mul_(root).mul_(values)  # values / (1 + sum) ** 0.75

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.conv2d(pixels - self.mean, self.w1, self.b1, 4).relu_()
        x = F.max_pool2d(self._normalise(x, self.band1), 3, 2)
        x = F.conv2d(x, self.w2, self.b2, 1, 2, groups=2).relu_()
        pool2 = F.max_pool2d(self._normalise(x, self.band2), 3, 2)
        conv3 = F.conv2d(pool2, self.w3, self.b3, 1, 1).relu_()
        x = F.conv2d(conv3, self.w4, self.b4, 1, 1, groups=2).relu_()
        return pool2, conv3, F.conv2d(x, self.w5, self.b5, 1, 1, groups=2).relu_()


class MobileNetTeacher(nn.Module):
    """MobileNet v2: pixels in 0..1 [N, 3, H, W] -> features [N, 1280], logits [N, 1000]."""

    def __init__(self, program: Path) -> None:
        super().__init__()
        loaded = _load(program)
        blocks = [list(block.body.children()) for block in loaded.blocks.children()]
        self.stem = _Convolution(loaded.stem)
        self.blocks = nn.ModuleList(nn.Sequential(*map(_Convolution, body)) for body in blocks)
        self.adds = [bool(block.res) for block in loaded.blocks.children()]
        self.head, self.last = _Convolution(loaded.head), _Convolution(loaded.fc)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(pixels * 2 - 1)
        for block, adds in zip(self.blocks, self.adds, strict=True):
            x = x + block(x) if adds else block(x)
        features = self.head(x).float().mean((2, 3), keepdim=True)
        return features.flatten(1), self.last(features.to(x.dtype)).float().flatten(1)


class _Convolution(nn.Module):
    """One convolution of the program, its scale multiplied out, padded as TensorFlow pads."""

    def __init__(self, part: torch.jit.ScriptModule) -> None:
        super().__init__()
        weight = part.weight.detach().float() * part.scale.detach().float()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", part.bias.detach().float())
        self.stride, self.groups, self.act = int(part.stride), int(part.groups), bool(part.act)
        self.pad = int(part.k) == 3

    def forward(self, x: Tensor) -> Tensor:
        padding = 0
        if self.pad and self.stride == 2:
            high, wide = (max(0, (side + 1) // 2 * 2 + 1 - side) for side in x.shape[2:])
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        elif self.pad:
            padding = 1
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return F.relu6(x, inplace=True) if self.act else x
