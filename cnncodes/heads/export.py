"""A head for other tools: a scikit-learn pipeline (skops file, no pickle) or an ONNX graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from cnncodes.core.errors import DependencyError, OptionError, OutputExistsError, nearest
from cnncodes.core.outputs import replacing
from cnncodes.heads.head import Head

FORMATS = ("sklearn", "onnx")


def export_head(head: Head, path: str | Path, *, to: str, overwrite: bool = False) -> Path:
    """Write a head, its normalisation included: raw codes in, classes out.

    Parameters
    ----------
    head : Head
    path : path of the file
    to : {"sklearn", "onnx"}
        "sklearn" writes a ``Pipeline`` of a normaliser and ``LinearSVC`` or ``LogisticRegression`` as a skops
        file (``skops.io.load``), "onnx" a graph with input ``codes`` ``[n, d]`` float32, which gives the
        classes' names and ``[n, K]`` scores (SVM; a single column, that of the second class, for two classes)
        or probabilities (softmax).
    overwrite : bool, default False

    Raises
    ------
    OptionError
        For another format.
    DependencyError
        If skops or skl2onnx is not installed.
    OutputExistsError
        If the file is there and ``overwrite`` is false.
    """
    from cnncodes.heads import scikit

    path = Path(path)
    if to not in FORMATS:
        raise OptionError(f"format '{to}' is not known.", nearest(to, FORMATS))
    if path.exists() and not overwrite:
        raise OutputExistsError(f"'{path}' exists already.", "Choose another name, or use --overwrite.")
    pipeline = scikit.pipeline_of(head)
    content = _onnx(pipeline, head) if to == "onnx" else _skops(pipeline)
    with replacing(path, overwrite=overwrite) as whole:
        whole.write_bytes(content)
    return path


def check_exportable(to: str) -> None:
    """Raise DependencyError now if a format of :func:`export_head` needs a library that is not installed."""
    library = {"sklearn": "skops", "onnx": "skl2onnx"}.get(to, "sklearn")
    if importlib.util.find_spec(library) is None:
        raise _missing(library, to)


def _skops(pipeline: object) -> bytes:
    try:
        import skops.io
    except ImportError as error:
        raise _missing("skops", "sklearn") from error
    return bytes(skops.io.dumps(pipeline))


def _onnx(pipeline: Any, head: Head) -> bytes:
    try:
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise _missing("skl2onnx", "onnx") from error
    inputs = [("codes", FloatTensorType([None, head.weight.shape[1]]))]
    # Probabilities as an array, not as a map; an SVM's scores never are one, and the option is an error there.
    # Named by type, since skl2onnx adds the option itself to a classifier that is not named.
    options = {type(pipeline[-1]): {"zipmap": False} if head.kind == "softmax" else {}}
    graph = skl2onnx.convert_sklearn(pipeline, initial_types=inputs, options=options)
    return bytes(graph.SerializeToString())


def _missing(library: str, extra: str) -> DependencyError:
    return DependencyError(
        f"this export needs {library}, which is not installed.", f"Run: pip install 'cnncodes[{extra}]'."
    )
