"""What happens with one batch: a step of gradient descent, or a look at images that are watched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cnncodes.codes.compute import Device
from cnncodes.training.inputs import Batch
from cnncodes.training.learner import DropoutMask, Learner
from cnncodes.training.objective import Objective
from cnncodes.training.processes import Processes
from cnncodes.training.settings import TrainingSettings
from cnncodes.training.state import Tested, autocast, make_optimizer


class Descent:
    """Steps of gradient descent, of one process or of several that each have a share of every batch.

    Parameters
    ----------
    learner : Learner
        On the device.
    settings : TrainingSettings
        Optimizer, precision and the longest gradient.
    device : Device
    processes : Processes

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
    """

    def __init__(
        self, learner: Learner, settings: TrainingSettings, device: Device, processes: Processes
    ) -> None:
        self._learner, self._settings, self._device, self._processes = learner, settings, device, processes
        self._forward: Any = learner
        if processes.count > 1:
            self._forward = DistributedDataParallel(learner)
        self.optimizer = make_optimizer(learner, settings, device)

    def step(self, batch: Batch, objective: Objective, rate: float, *, cached: bool) -> Tensor:
        """One step on this process's share of a batch.

        Parameters
        ----------
        batch : Batch
        objective : Objective
        rate : float
            Learning rate of the last stage; others have their part of it.
        cached : bool
            Whether the batch enters behind the frozen stages.

        Returns
        -------
        float32 Tensor [3]
            Sum of the losses, images that are right, images: still on the device, which may not have computed them yet.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self.optimizer.zero_grad(set_to_none=True)
        mask = DropoutMask(batch.size, batch.places)
        with autocast(self._settings.precision, self._device):
            logits = self._forward(batch.values, mask, cached)
        losses = objective(logits, batch.targets)
        # DistributedDataParallel takes the mean over processes of what is the mean over the whole batch here
        (losses.sum() * (self._processes.count / max(batch.size, 1))).backward()  # type: ignore[no-untyped-call]
        if self._settings.clip_norm:
            learning = [values for values in self._learner.parameters() if values.requires_grad]
            torch.nn.utils.clip_grad_norm_(learning, self._settings.clip_norm)
        self.optimizer.step()
        right = objective.right(logits.detach(), batch.targets)
        count = torch.tensor(float(len(batch.rows)), device=losses.device)
        return torch.stack([losses.detach().sum(), right.float(), count])

    def watch(self, batches: Iterable[Batch], objective: Objective, *, cached: bool) -> Tested | None:
        """What the network is worth on all processes' images; None if none can be read. Nothing is learned."""
        self._learner.eval()
        total = torch.zeros(3, dtype=torch.float64, device=self._device.torch_name)
        with torch.inference_mode():
            for batch in batches:
                if not batch.rows:
                    continue
                with autocast(self._settings.precision, self._device):
                    logits = self._learner(batch.values, cached=cached)
                losses = objective(logits, batch.targets)
                right = objective.right(logits, batch.targets)
                count = right.new_tensor(len(batch.rows))
                total += torch.stack([losses.sum().double(), right.double(), count.double()])
        loss, right_sum, seen = self._processes.sum(total).tolist()
        return Tested(int(seen), loss / seen, right_sum / seen) if seen else None
