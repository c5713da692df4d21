"""The record that weights carry in every file of cnncodes: what travels beside the tensors, as JSON."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from cnncodes.core.errors import CnnCodesError, WeightsError
from cnncodes.weights.content import FileContent, damaged
from cnncodes.weights.preprocessing import Preprocessing
from cnncodes.weights.record import Origin, Weights

if TYPE_CHECKING:
    import torch


def record_of(weights: Weights, file_format: int) -> dict[str, Any]:
    """What is written beside the tensors of weights: network, preprocessing, classes, source, fingerprint, ..."""
    classes = weights.class_names()
    record: dict[str, Any] = {
        "format": file_format,
        "network": weights.network,
        "preprocessing": json.loads(weights.preprocessing.to_json()),
        "classes": None if classes is None else list(classes),
        "name": weights.name,
        "source": weights.source,
        "origin": weights.origin,
        "fingerprint": weights.fingerprint,
        "seen": _text(weights.seen),
    }
    if weights.watched:
        record["watched"] = _text(weights.watched)
    if weights.evidence:
        record["evidence"] = weights.evidence
    return record


def require_one_head(what: str, record: Mapping[str, Any], error: type[CnnCodesError]) -> None:
    """Raise ``error`` for a file of an earlier version whose classes are those of several heads, one for each data set."""
    sets = record.get("class_sets")
    if isinstance(sets, list) and len(set(map(str, sets))) > 1:
        raise error(
            f"{what} has a head for each of several data sets, and this version reads models with one head.",
            "Train a network for each data set, or join them: cnncodes train birds/ --data flowers/.",
        )


def content_of(
    path: Path, record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], file_format: int
) -> FileContent:
    """Inverse of :func:`record_of`, with the tensors that were read; raises WeightsError, naming the file."""
    try:
        if record["format"] != file_format:
            raise WeightsError(
                f"the weights file '{path}' has format {str(record['format'])[:40]}; "
                f"this version knows format {file_format}.",
                "Install a newer version of cnncodes.",
            )
        classes = record["classes"]
        if not (
            classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))
        ):
            raise ValueError("its class names are not text")
        if not all(isinstance(record[entry], str) for entry in ("network", "source", "fingerprint")):
            raise ValueError("its network, source or fingerprint is not text")
        if not re.fullmatch("[0-9a-f]{64}", record["fingerprint"]):
            raise ValueError("its fingerprint is no sha256")
        require_one_head(f"the weights file '{path}'", record, WeightsError)
        evidence = dict(record.get("evidence", {}))
        test = evidence.get("test")
        if test is not None and not all(
            isinstance(test[entry], int | float) for entry in ("images", "accuracy")
        ):
            raise ValueError("its test is not one of a training")
        return FileContent(
            tensors=tensors,
            network=record["network"],
            preprocessing=Preprocessing.from_json(json.dumps(record["preprocessing"])),
            classes=None if classes is None else tuple(classes),
            source=record["source"],
            origin=_origin(record),
            fingerprint=record["fingerprint"],
            seen=_digests(record.get("seen", "")),
            watched=_digests(record.get("watched", "")),
            evidence=evidence,
        )
    except WeightsError:
        raise
    except CnnCodesError as error:
        raise damaged(path, error.problem.rstrip(".")) from error
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise damaged(path, f"its record is not one of cnncodes ({_reason(error)})") from error


def _origin(record: Mapping[str, Any]) -> Origin:
    """What the record says, or, of a file of before it was noted, how its source begins."""
    if record.get("origin") in get_args(Origin):
        return cast("Origin", record["origin"])
    return "random" if record["source"].startswith("random numbers, untrained") else "file"


def _text(digests: tuple[int, ...]) -> str:
    return b64encode(np.array(digests, "<u8").tobytes()).decode()


def _digests(text: str) -> tuple[int, ...]:
    return tuple(np.frombuffer(b64decode(text, validate=True), "<u8").tolist())


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160].rstrip(".") if lines else type(error).__name__
