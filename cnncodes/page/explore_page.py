"""The page of an exploration: one HTML file with the map, the groups and their fields for names, copies and strange images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnncodes.core.compute import Progress
from cnncodes.core.errors import CnnCodesError
from cnncodes.core.outputs import replacing
from cnncodes.images.catalog import Catalog
from cnncodes.page.html import page_source
from cnncodes.page.images import on_screen, one_file, read_images
from cnncodes.page.record import as_text
from cnncodes.pictures.codes_source import evenly
from cnncodes.pictures.drawing import plain

if TYPE_CHECKING:
    from cnncodes.page.exploring import Drawn, Exploration

SAMPLES, MOST_SAMPLES = 12, 240  # images of a group, and of all groups together
MOST_ALONE, MOST_STRANGE, MOST_COPIES, MOST_OF_ONE = 24, 48, 24, 8
NEIGHBOURS = 9  # shown of an image
MOST_UNREADABLE = 200
MOST_LISTED = 20_000  # images whose names the page has, so that it can save their labels


@dataclass(frozen=True)
class Group:
    """One group on the page: its number from 1, its images, and the rows of those that are shown, the most typical first."""

    number: int
    size: int
    rows: tuple[int, ...]


def write_page(
    found: Exploration,
    catalog: Catalog,
    drawn: Drawn,
    path: Path,
    title: str,
    command: str,
    progress: Progress,
) -> None:
    """Write the page, whole or not at all."""
    images, on_map = found.images, {row: place for place, row in enumerate(drawn.rows.tolist())}
    groups = _groups(found, on_map)
    none = [row for row in on_map if images[row].group is None]
    alone = evenly(np.array(none, np.int64), MOST_ALONE).tolist()
    row_of = {image.file: row for row, image in reversed(list(enumerate(images)))}
    sets: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images):
        if image.copy_of is not None:
            sets[row_of[image.copy_of]].append(row)
    copies = [[first, *rows][:MOST_OF_ONE] for first, rows in list(sets.items())[:MOST_COPIES]]
    strange = [row_of[image.file] for image in found.strange[:MOST_STRANGE]]
    alone_and_others = (*alone, *strange, *(row for rows in copies for row in rows))
    cards = sorted({*alone_and_others, *(row for group in groups for row in group.rows)})
    files = [str(file) for file in catalog.reader]
    small, tiles, _ = read_images(
        files, cards, drawn.rows.tolist(), lambda done, total: progress("thumbnails", done, total, "")
    )
    listed = range(len(images)) if len(images) <= MOST_LISTED else sorted(on_map)
    texts = ((as_text(files[row]), images[row].group) for row in listed if images[row].group is not None)
    text = page_source(
        "explore",
        title=title,
        next_command=command,
        found=found,
        names=[image.file for image in images],
        groups=groups,
        alone=alone,
        copies=copies,
        strange=strange,
        unreadable=list(found.unreadable.items())[:MOST_UNREADABLE],
        cards=small,
        on_map=on_map,
        map=_map(found, drawn, tiles),
        listed=len(images) <= MOST_LISTED,
        files=[entry for entry in texts if entry[0]],
    )
    with replacing(path, overwrite=True, error=CnnCodesError) as whole:
        whole.write_bytes(text.encode("utf-8"))


def _groups(found: Exploration, on_map: dict[int, int]) -> list[Group]:
    """The groups with images from the most typical to the least, of those on the map."""
    members: dict[int, list[int]] = defaultdict(list)
    for row in on_map:
        if (number := found.images[row].group) is not None:
            members[number].append(row)
    each = max(3, min(SAMPLES, MOST_SAMPLES // max(len(found.groups), 1)))
    made = []
    for number, size in enumerate(found.groups, 1):
        rows = sorted(members[number], key=lambda row: found.images[row].distance or 0.0)
        made.append(Group(number, size, tuple(evenly(np.array(rows, np.int64), each).tolist())))
    return made


def _map(found: Exploration, drawn: Drawn, tiles: Any) -> dict[str, Any]:
    """What the map's script reads, as :func:`cnncodes.page.views.map_of` has it; the classes are the groups."""
    places = np.round(10_000 * on_screen(drawn.points)).astype(int).tolist()
    entries = [
        [x, y, (found.images[row].group or 0) - 1, -1, plain(found.images[row].file), near[:NEIGHBOURS]]
        for (x, y), row, near in zip(places, drawn.rows.tolist(), drawn.neighbours.tolist(), strict=True)
    ]
    image, side, columns = one_file(tiles)
    return {
        "image": image,
        "document": {
            "classes": [f"group {number}" for number in range(1, len(found.groups) + 1)],
            "without": "in no group",
            "side": side,
            "columns": columns,
            "images": entries,
        },
    }
