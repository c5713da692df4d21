"""What was amiss with image files that are read all the same: each kind with its words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

#: Kind -> what so many files are.
NOTES = {
    "damaged-end": "damaged at the end",
    "junk-in-front": "preceded by bytes that are no part of the image",
    "checksum": "damaged beside the pixels: a text or the like has a wrong checksum",
    "float-255": "of float pixels from 0 to 255, which are read as grey levels",
}
NOTE = "cnncodes"  #: key of a picture's ``info`` under which its kinds stand, a tuple


def noted(notes: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each kind that is there, a sentence on it such as ``3 files are damaged at the end``, and the files' names."""
    for kind, words in NOTES.items():
        names = tuple(name for name, kinds in notes.items() if kind in kinds)
        if names:
            yield kind, f"{len(names):,} {'file is' if len(names) == 1 else 'files are'} {words}", names
