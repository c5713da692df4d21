"""The network that learns: torchvision's AlexNet with batch normalisation, its last stages of low rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TARGETS = ("pool2", "conv3", "conv5")  # of the AlexNet that is imitated
CHANNELS = (256, 384, 256)
WEIGHTS = (0.3, 1.0, 2.0)  # of the three errors in the loss
TEMPERATURE = 2.0


class Convolutions(nn.Module):
    """torchvision's five convolutions: pixels in 0..1 [N, 3, 224, 224] -> pool2, conv3 and conv5 before their ReLU."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 192, 384, 256, 256)
        kernels, strides, pads = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
        self.conv = nn.ModuleList(
            nn.Conv2d(widths[k], widths[k + 1], kernels[k], strides[k], pads[k], bias=False) for k in range(5)
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.pool = nn.MaxPool2d(3, 2)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        nn.init.normal_(
            self.conv[0].weight, std=0.01
        )  # small, so that nothing of the noise is left in the filters

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = (pixels - self.mean) / self.deviation
        x = self.pool(self.norm[0](self.conv[0](x)).relu())
        pool2 = self.pool(self.norm[1](self.conv[1](x)).relu())
        conv3 = self.norm[2](self.conv[2](pool2))
        x = self.norm[3](self.conv[3](conv3.relu())).relu()
        return pool2, conv3, self.norm[4](self.conv[4](x))


class Imitation(nn.Module):
    """The convolutions with what the comparison needs: means and deviations of the teacher's channels, a map of pool2."""

    def __init__(self) -> None:
        super().__init__()
        self.student = Convolutions()
        self.map = nn.Conv2d(192, 256, 1)
        for name, channels in zip(TARGETS, CHANNELS, strict=True):
            self.register_buffer(f"mean_{name}", torch.zeros(1, channels, 1, 1))
            self.register_buffer(f"deviation_{name}", torch.ones(1, channels, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pool2, conv3, conv5 = self.student(pixels)
        return self.map(pool2), conv3, conv5

    def target(self, name: str, answer: Tensor) -> Tensor:
        """The teacher's answer in units of its channels' deviations."""
        return answer.float() / self.get_buffer(f"deviation_{name}")

    def hints(self, guesses: tuple[Tensor, ...], answers: tuple[Tensor, ...]) -> Tensor:
        """Loss of the three stages: squared error of the rectified guess; where the target is above 0, of the guess itself,
        which then has a slope."""
        total = guesses[0].new_zeros((), dtype=torch.float32)
        for name, weight, guess, answer in zip(TARGETS, WEIGHTS, guesses, answers, strict=True):
            target, value = self.target(name, answer), guess.float()
            total = total + weight * (torch.where(target > 0, value, value.relu()) - target).square().mean()
        return total


class LowRank(nn.Module):
    """A matrix as the product of two, with batch normalisation behind it unless ``norm`` is false."""

    def __init__(self, into: int, out: int, rank: int, norm: bool = True) -> None:
        super().__init__()
        self.right, self.left = nn.Linear(into, rank, bias=False), nn.Linear(rank, out, bias=not norm)
        self.norm = nn.BatchNorm1d(out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.left(self.right(x)))


class Classifier(nn.Module):
    """pool5 [N, 9216] -> logits [N, 1000], MobileNet's features as guessed from fc7 [N, 1280]."""

    def __init__(self, rank: int, dropout: float) -> None:
        super().__init__()
        self.fc6, self.fc7 = LowRank(9216, 4096, rank), LowRank(4096, 4096, rank)
        self.fc8 = LowRank(4096, 1000, rank, norm=False)
        self.guess = nn.Linear(4096, 1280)
        self.dropout = nn.Dropout(dropout)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        fc6 = self.fc6(self.dropout(codes)).relu()
        fc7 = self.fc7(self.dropout(fc6)).relu()
        return self.fc8(fc7).float(), self.guess(fc7).float()


def imitate(logits: Tensor, guess: Tensor, answers: Tensor, weight: float) -> Tensor:
    """Loss of the last stages: softened class probabilities (Hinton, Vinyals and Dean 2015), and features.

    Parameters
    ----------
    logits, guess : Tensor [N, 1000], [N, 1280]
    answers : Tensor [N, 2280]
        MobileNet's features and logits.
    weight : float
        Of the features' squared error.
    """
    soft = F.log_softmax(answers[:, 1280:] / TEMPERATURE, 1)
    odds = F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), soft, log_target=True, reduction="batchmean")
    return odds * TEMPERATURE**2 + weight * F.mse_loss(guess, answers[:, :1280])


def pool5_of(conv5: Tensor) -> Tensor:
    """Codes [N, 9216] of conv5 before its ReLU."""
    return F.max_pool2d(conv5.relu(), 3, 2).flatten(1)
