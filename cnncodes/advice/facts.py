"""What was found out, as records: a kind with its numbers. :mod:`cnncodes.advice.sentences` makes English of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fact:
    """Why something was chosen, or what to know about a result.

    Parameters
    ----------
    kind : str
        One of those in :data:`cnncodes.advice.sentences.REASONS` or ``NOTES``; "text" in records of earlier versions.
    values : dict
        Numbers and names, as JSON has them.
    """

    kind: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """What a finding is about: an image, several that belong together, or a class.

    Parameters
    ----------
    names : tuple of str
        Of the images in the catalog, or of the class.
    rows : tuple of int
        Of the images in the catalog.
    values : dict
        What is known about it.
    """

    names: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding(Fact):
    """Something about the data that a person should look at.

    Parameters
    ----------
    kind : str
        One of those in :data:`cnncodes.advice.sentences.FINDINGS`.
    values : dict
        Numbers; ``count`` is the number of cases, of which only the clearest are listed.
    cases : tuple of Case
        The clearest first.
    """

    cases: tuple[Case, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all cases."""
        return tuple(name for case in self.cases for name in case.names)

    @property
    def rows(self) -> tuple[int, ...]:
        """Of all cases."""
        return tuple(row for case in self.cases for row in case.rows)


def upgraded(value: Any) -> Any:
    """The values of a fact or a finding as an earlier version wrote it, with its sentence, as those of one with kind and values."""
    if isinstance(value, str):
        return {"kind": "text", "values": {"text": value}}
    if "values" in value:
        return value
    if "conclusion" in value:
        return {"kind": "text", "values": value}
    texts, files, rows = value["names"], value.get("files", ()), value.get("rows", ())
    single = len(rows) in (0, len(texts))  # else several of one text: they are told together
    cases = [
        {
            "names": list(files[place : place + 1]),
            "rows": list(rows[place : place + 1] if single else () if place else rows),
            "values": {"text": text},
        }
        for place, text in enumerate(texts)
    ]
    return {"kind": value["kind"], "values": {"text": value["text"]}, "cases": cases}
