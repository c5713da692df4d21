"""A network and its classifier as one chain of modules, for programs that hook modules.

captum changes what a backward pass does by hooks on ``nn.ReLU`` modules. The network itself has none (its
nonlinearity is a function), so that every ReLU gets one of its own here, those of the fully connected stages too: where
one module serves several places, or a function stands in one, guided backpropagation silently is not guided there.
Hooks land on the chain, never on the network, whose parameters it uses where they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from cnncodes.networks import Stage
    from cnncodes.pictures.subject import Subject


class Step(nn.Module):
    """One function as a module, so that its result can be hooked; it owns no parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, value: Tensor) -> Tensor:
        """What the function gives."""
        return self._function(value)


class Chain(nn.Module):
    """Scores of a subject, ``[batch, classes]``, by modules of its own: the same numbers as ``Subject.scores``.

    Parameters
    ----------
    subject : Subject
    """

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        network = subject.network
        #: Stages up to the one that the classifier reads, in order.
        self.stages = stages_read(subject)
        ends_linear = subject.stage.endswith(":linear")
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for stage in self.stages:
            steps[stage.name] = Step(partial(network.linear, stage))
            if stage.relu and not (ends_linear and stage is self.stages[-1]):
                tanh = network.network.activation == "tanh"
                steps[f"{stage.name}_relu"] = nn.Tanh() if tanh else nn.ReLU(inplace=False)
        steps["classifier"] = Step(subject.classify)
        self.steps = nn.Sequential(steps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores ``[batch, classes]`` of preprocessed pixels ``[batch, 3, height, width]``."""
        scores: Tensor = self.steps(pixels)
        return scores

    def result_of(self, stage: str) -> nn.Module:
        """The module that gives what the stage gives, its ReLU included; raises KeyError."""
        modules: dict[str, Any] = dict(self.steps.named_children())
        found: nn.Module = modules.get(f"{stage}_relu") or modules[stage]
        return found

    def after(self, stage: str | None) -> nn.Sequential:
        """The part that makes scores of what the stage gives (all of it for None)."""
        modules = list(self.steps)
        return nn.Sequential(*modules[modules.index(self.result_of(stage)) + 1 if stage else 0 :])


def stages_read(subject: Subject) -> tuple[Stage, ...]:
    """The network's stages up to the one that the classifier reads, in order."""
    stages = subject.network.network.stages
    last = subject.network.network.stage(subject.stage)
    return stages[: stages.index(last) + 1]
