"""Networks: stages and their arithmetic, the AlexNets, names and ranges, activations of named stages, networks of libraries.

Names are loaded when they are first asked for: only ``TorchNetwork``, ``dense`` and ``library`` need torch.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
