"""The fully convolutional form: a network over an image larger than it was made for, at every place at once.

A fully connected stage over a grid of 6 x 6 places is a convolution with a 6 x 6 kernel that was only ever applied at one
place; on a larger grid it can be applied at all of them (CS231n, *Convolutional Networks*, "Converting FC layers
to CONV layers"; Sermanet et al. 2014, OverFeat; Simonyan and Zisserman 2014, section 3.2).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cnncodes.core.errors import InputSizeError
from cnncodes.networks.arithmetic import receptive_fields
from cnncodes.networks.network import Network
from cnncodes.networks.stages import DoesNotFitError, Linear, LocalResponseNorm, Shape
from cnncodes.networks.torch_network import TorchNetwork


class DenseNetwork:
    """A network whose fully connected stages slide over the grid that enters the first of them.

    The window is as wide as that grid is for the usual input of ``input_size`` pixels: ``grid`` is 6 x 6 places of pool5 for
    AlexNet at 224 pixels, 5 x 5 at 192; 0 without such stages. At each place the result is that of the fully connected stages on
    this window, exactly. It is not quite that of the crop below the window: at a crop's border convolutions see padding, and here
    the neighbouring pixels. Where the grid is pooled on average to another size before the first fully connected stage, this
    pooling is linear, so that it is folded into that stage's weights, without any loss.
    """

    def __init__(self, network: TorchNetwork, input_size: int) -> None:
        self.network, self.input_size = network, input_size
        record = network.network
        self._linear = [stage for stage in record.stages if isinstance(stage, Linear)]
        self._trunk = [stage for stage in record.stages if not isinstance(stage, Linear)]
        self._shapes = record.output_shapes(input_size)
        self.grid = 0
        if self._linear:
            channels, self.grid, _ = record.incoming_shapes(input_size)[len(self._trunk)]
            self._kernel = self._folded(self._linear[0], channels)

    def side(self, stage: str) -> int:
        """Side of the window of a stage's own grid: what the usual crop gives; 1 for a fully connected stage."""
        shape = self._shapes[stage.partition(":")[0]]
        return shape[1] if len(shape) == 3 else 1

    def activations(self, pixels: Tensor, stage: str) -> Tensor:
        """What a stage (``fc7:linear``: before its ReLU) gives over larger images ``[batch, 3, height, width]``, preprocessed.

        Returns ``[batch, channels, height, width]`` of a stage with a grid; of a fully connected one ``[batch, features, rows,
        columns]``, a value for each place of the window. Raises InputSizeError if the images are smaller than the usual crop.
        """
        name, _, linear_only = self.network.network.select_one(stage).partition(":")
        if min(pixels.shape[2:]) < self.input_size:
            raise InputSizeError(
                f"an image of {pixels.shape[3]} x {pixels.shape[2]} px is smaller than the network's crop of "
                f"{self.input_size} px.",
                "Use a larger size.",
            )
        value = pixels
        for found in self._trunk:
            linear = self.network.linear(found, value)
            value = self.network.activate(linear) if found.relu else linear
            if found.name == name:
                return linear if linear_only else value
        rows, columns = value.shape[2] - self.grid + 1, value.shape[3] - self.grid + 1
        # One row per window; F.unfold orders a window as flatten(1) does: channels, rows, columns.
        codes = F.unfold(value, self.grid).transpose(1, 2)  # [batch, rows * columns, channels * grid^2]
        for place, found in enumerate(self._linear):
            layer = self.network.get_submodule(found.prefix)
            weight = self._kernel if place == 0 else self.network.matrix(found)
            linear = F.linear(codes, weight, layer.get_parameter("bias"))
            codes = self.network.activate(linear) if found.relu else linear
            if found.name == name:
                codes = linear if linear_only else codes
                break
        return codes.transpose(1, 2).reshape(len(codes), -1, rows, columns)

    def _folded(self, stage: Linear, channels: int) -> Tensor:
        """Weights of the first fully connected stage for a window as it is, ``[features, channels * grid^2]``.

        With A the matrix of the average pooling from ``grid`` to ``pool_to`` places, ``W (A x A') = (A' W A) x``.
        """
        weight = self.network.matrix(stage).detach()
        if stage.pool_to is None or stage.pool_to == self.grid:
            return weight
        pooling = adaptive_average(self.grid, stage.pool_to).to(weight)
        square = weight.view(-1, channels, stage.pool_to, stage.pool_to)
        return torch.einsum("fcij,iy,jx->fcyx", square, pooling, pooling).flatten(1)


def adaptive_average(incoming: int, outgoing: int) -> Tensor:
    """torch's adaptive average pooling of one side as a matrix, float64 ``[outgoing, incoming]``.

    Place i is the mean from ``floor(i incoming / outgoing)`` to ``ceil((i + 1) incoming / outgoing)``.
    """
    return F.adaptive_avg_pool1d(torch.eye(incoming, dtype=torch.float64), outgoing).T


def window_places(network: Network, stage: str, crop: int) -> tuple[float, int]:
    """Where the windows lie that a stage slides over an image; a window of a stage with a grid is what a crop gives.

    Returns the pixel in the middle of the first window's receptive field (padding shifts it), and the pixels from one window to the next.
    """
    field = receptive_fields(network, crop)[network.stage(stage).name]
    return (field.centres[0] + field.centres[-1]) / 2, field.jump


def dense_bytes(network: Network, height: int, width: int, grid: int) -> int:
    """About the most memory in bytes that one image takes at once, in float32: what a stage reads and gives."""
    largest = 0
    shape: Shape = (3, height, width)
    try:
        for stage in network.stages:
            if isinstance(stage, Linear):
                break
            incoming, shape = shape, stage.output_shape(shape)
            # squares and sums; before and after the ReLU
            copies = 4 if isinstance(stage, LocalResponseNorm) else 2
            largest = max(largest, math.prod(incoming) + copies * math.prod(shape))
    except DoesNotFitError as error:
        raise InputSizeError(
            f"an image of {width} x {height} px does not fit network '{network.name}': {error}.",
            "Use a larger size.",
        ) from error
    if grid:
        windows = max(shape[1] - grid + 1, 0) * max(shape[2] - grid + 1, 0)
        largest = max(largest, math.prod(shape) + windows * (shape[0] * grid**2 + 2 * 4096))
    return 4 * largest
