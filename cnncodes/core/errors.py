"""Errors that a person can cause, each in two sentences: what is wrong, and what to do.

Everything this package raises on purpose is a :class:`CnnCodesError`. Catch the most specific subclass;
the command line prints ``problem`` and ``remedy`` and ends with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CnnCodesError(Exception):
    """Root of all errors of this package.

    Parameters
    ----------
    problem : str
        What is wrong, with the name and the number.
    remedy : str
        What to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"


class OptionError(CnnCodesError, ValueError):
    """A parameter has a value that is not allowed."""

    exit_code = 2


class StageError(OptionError):
    """A stage name or range that the network does not have."""


class NetworkError(OptionError):
    """A network name that does not exist."""


class InputSizeError(CnnCodesError):
    """An input too small for the network."""


class WeightsError(CnnCodesError):
    """A weights file that cannot be read, or must not be."""


class WeightsMissingError(WeightsError):
    """Weights that are not on this machine."""


class WeightsMismatchError(WeightsError):
    """Weights of another network: keys or shapes differ, or the fingerprint does."""


class CatalogError(CnnCodesError):
    """A folder, list or CSV file from which no catalog can be made."""


class ImageError(CnnCodesError):
    """One image that cannot be read; ``problem`` is the reason that is listed."""


class CodesFileError(CnnCodesError):
    """A codes file that cannot be read, or is not one."""


class OutputExistsError(CnnCodesError):
    """The output is there already and would be lost."""


class OutputBusyError(CnnCodesError):
    """Another process is writing the same output."""


class ResumeError(CnnCodesError):
    """The output belongs to other images, weights or settings."""


class WorkerError(CnnCodesError):
    """Worker processes that end without a result."""


class DiskFullError(CnnCodesError):
    """The output does not fit on the disk."""


class HeadError(CnnCodesError):
    """A linear head cannot be fitted to these codes or labels."""


class ModelError(CnnCodesError):
    """A model file that cannot be read, or does not fit the data."""


class DependencyError(CnnCodesError):
    """An optional library that is not installed, or one that does not work."""


def nearest(wrong: str, allowed: Iterable[str]) -> str:
    """Sentence that names the allowed value nearest to a wrong one, or lists all of them.

    >>> nearest("fc77", ["fc6", "fc7"])
    "Did you mean 'fc7'? Allowed: fc6, fc7."
    """
    names = list(allowed)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    listing = f"Allowed: {', '.join(names)}."
    return f"Did you mean '{close[0]}'? {listing}" if close else listing
