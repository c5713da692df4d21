"""Scores of an image with a patch on it, where only what the patch changes is computed again.

A patch of 32 pixels changes 11 x 11 of conv1's 55 x 55 places, 11 x 11 of conv2's 27 x 27, and everything from conv5
on. So the first stages are computed on windows cut out of the plain image's maps, and pasted back. A window has the same
numbers as the whole map has there, but for rounding: only the order of the sums differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from cnncodes.networks import Convolution, Linear, LocalResponseNorm, MaxPool, Stage
from cnncodes.pictures.chain import Chain

if TYPE_CHECKING:
    from torch import Tensor

    from cnncodes.pictures.subject import Subject

#: A window larger than this share of the map is not worth cutting out.
WORTH = 0.5


@dataclass(frozen=True)
class Span:
    """Places ``start`` to ``start + length - 1`` of one side of a map."""

    start: int
    length: int

    @property
    def stop(self) -> int:
        """The place after the last."""
        return self.start + self.length


Box = tuple[Span, Span]  # rows, columns


@dataclass(frozen=True, eq=False)
class Layer:
    """One stage that is computed on windows.

    Parameters
    ----------
    stage : Stage
        Without padding: that is in ``before``.
    size : int
        Side of what enters the stage, without padding.
    kernel, stride, pad : int
        ``pad`` is before the first place.
    window : int
        Side of the windows of its result, the same for all patches so that they make one batch.
    before : Tensor [1, channels, padded side, padded side]
        What enters the stage for the plain image, padded.
    after : Tensor [1, channels, side, side]
        What it gives for the plain image.
    """

    stage: Stage
    size: int
    kernel: int
    stride: int
    pad: int
    window: int
    before: Tensor
    after: Tensor


class PatchedScores:
    """Scores of one image with a grey patch at given places.

    Grey is 0 after preprocessing: the mean colour that the weights' preprocessing subtracts.

    Parameters
    ----------
    subject : Subject
    pixels : Tensor [1, 3, side, side]
        Preprocessed.
    boxes : sequence of (Span, Span)
        All patches that will be asked, rows and columns in pixels: the windows must hold the largest.
    worth : float, default 0.5
        Windows are used while they cover at most this share of a map; 0 computes everything anew.
    """

    def __init__(self, subject: Subject, pixels: Tensor, boxes: Sequence[Box], worth: float = WORTH) -> None:
        self._network = subject.network
        self._chain = Chain(subject)
        self._pixels = pixels
        spans = {span for box in boxes for span in box}
        self._layers = self._plan(spans, worth)
        self._rest = self._chain.after(self._layers[-1].stage.name if self._layers else None)

    @property
    def on_windows(self) -> tuple[str, ...]:
        """Names of the stages that are computed on windows."""
        return tuple(layer.stage.name for layer in self._layers)

    @torch.inference_mode()
    def __call__(self, boxes: Sequence[Box]) -> Tensor:
        """Scores ``[len(boxes), classes]`` of the image with the patch on each of the boxes in turn."""
        shape = (len(boxes), 3, max(b[0].length for b in boxes), max(b[1].length for b in boxes))
        windows = self._pixels.new_zeros(shape)  # clipped patches use a part of theirs
        below, maps = list(boxes), self._pixels
        for layer in self._layers:
            windows, below = self._step(layer, windows, below)
            maps = layer.after
        whole = maps.expand(len(boxes), -1, -1, -1).clone(memory_format=torch.channels_last)
        for image, window, (rows, columns) in zip(whole, windows, below, strict=True):
            image[:, rows.start : rows.stop, columns.start : columns.stop] = window[
                :, : rows.length, : columns.length
            ]
        scores: Tensor = self._rest(whole)
        return scores

    def _step(self, layer: Layer, windows: Tensor, below: list[Box]) -> tuple[Tensor, list[Box]]:
        """The next stage's windows and where they lie."""
        boxes = [(reach(layer, rows), reach(layer, columns)) for rows, columns in below]
        side = (layer.window - 1) * layer.stride + layer.kernel
        cut = layer.before.new_empty((len(boxes), layer.before.shape[1], side, side)).contiguous(
            memory_format=torch.channels_last
        )
        for place, (box, inner) in enumerate(zip(boxes, below, strict=True)):
            top, left = (span.start * layer.stride for span in box)
            cut[place] = layer.before[0, :, top : top + side, left : left + side]
            _paste(cut[place], windows[place], inner, (top - layer.pad, left - layer.pad))
        return self._network.compute(layer.stage, cut), boxes

    @torch.inference_mode()
    def _plan(self, spans: set[Span], worth: float) -> list[Layer]:
        """The first stages, while windows of the patches' changes stay small."""
        layers: list[Layer] = []
        value = self._pixels
        last = self._chain.stages[-1]
        for stage in self._chain.stages:
            # The chain's last stage may be wanted before its ReLU: it is never cut.
            if isinstance(stage, Linear) or stage is last:
                break
            layer = self._layer(stage, value, spans)
            if layer.window**2 > worth * layer.after.shape[-1] ** 2:
                break
            layers.append(layer)
            spans = {reach(layer, span) for span in spans}
            value = layer.after
        return layers

    def _layer(self, stage: Stage, value: Tensor, spans: set[Span]) -> Layer:
        after = self._network.compute(stage, value)
        size, side = value.shape[-1], after.shape[-1]
        kernel, stride, pad, fill = 1, 1, 0, 0.0
        if isinstance(stage, Convolution):
            kernel, stride, pad = stage.kernel, stage.stride, stage.pads(size)[0]
            stage = replace(stage, padding=0)
        elif isinstance(stage, MaxPool):
            kernel, stride, fill = stage.kernel, stage.stride, float("-inf")
            stage = replace(stage, ceil=False)
        elif not isinstance(stage, LocalResponseNorm):
            raise TypeError(f"no windows for a stage of type {type(stage).__name__}")
        more = max((side - 1) * stride + kernel - size - pad, 0)
        before = F.pad(value, (pad, more, pad, more), value=fill)
        layer = Layer(stage, size, kernel, stride, pad, side, before, after)
        return replace(layer, window=max(reach(layer, span).length for span in spans))


def reach(layer: Layer, span: Span) -> Span:
    """The places of a stage's result that a change of ``span`` before it can reach, at least ``window`` of them."""
    side = layer.after.shape[-1]
    first = max(-(-(span.start + layer.pad - layer.kernel + 1) // layer.stride), 0)
    last = min((span.stop - 1 + layer.pad) // layer.stride, side - 1)
    length = max(last - first + 1, 1)
    if layer.window < side:  # all windows alike: a shorter one takes unchanged places with it
        length = layer.window
    return Span(min(first, side - length), length)


def _paste(target: Tensor, window: Tensor, box: Box, corner: tuple[int, int]) -> None:
    """Put what of a window lies inside the target there; ``box`` and ``corner`` are in the window's own map."""
    places = []
    for span, start, size in zip(box, corner, target.shape[1:], strict=True):
        begin = max(span.start - start, 0)
        stop = max(min(span.stop - start, size), begin)
        shift = begin - (span.start - start)
        places.append((slice(begin, stop), slice(shift, shift + stop - begin)))
    (rows, from_rows), (columns, from_columns) = places
    target[:, rows, columns] = window[:, from_rows, from_columns]
