"""Weights: the numbers of one network, with what must travel with them. Find, download, read, write.

The public names stand in ``__init__.pyi``. Importing this room is quick: torch, numpy and safetensors are loaded when they are used.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
