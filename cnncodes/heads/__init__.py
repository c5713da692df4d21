"""Linear heads on codes: linear SVM and softmax, the choice of C, normalisation, few-shot draws, the model file.

>>> from cnncodes.heads import fit_linear
>>> fit = fit_linear("codes.h5", layer="auto")                  # doctest: +SKIP
>>> fit.model.save("model.safetensors")                         # doctest: +SKIP

:func:`fit_head` works on arrays, :func:`fit_linear` on a codes file. scikit-learn is loaded only when one of
its solvers is called.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
