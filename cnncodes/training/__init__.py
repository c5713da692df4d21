"""Training: one loop for `train` and `finetune`; settings, augmentation, checkpoints, the run folder.

The public names stand in ``__init__.pyi`` and are loaded when they are used.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
