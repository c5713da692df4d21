"""The map of the codes on a page: what its script draws, and what stands around it."""

from __future__ import annotations

from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.images import Bytes, sheet_of, webp
from cnncodes.pictures.report.markup import data_uri, escaped, json_block, named, section
from cnncodes.pictures.report.record import PageMap, RunPage

SHEET_QUALITIES = (62, 45, 30)  # of the map's thumbnails: the first with which they fit
LARGEST_FILE = 5_000_000  # bytes of all thumbnails of the map


HINT = (
    '<p class="quiet">Move the pointer over an image for its name; click it for its neighbours. Drag to move; the wheel zooms '
    "after a click into the map; on a touch screen use two fingers.</p>"
)
CANVAS = (
    '<div class="map-area"><canvas id="map-canvas" tabindex="0" role="application" aria-label="Map of the images. Arrow keys '
    'move, plus and minus zoom, Enter chooses the image in the middle."></canvas><div id="map-tip" hidden></div></div>'
)
MOST_KEYS = 12  # classes in the legend


def codes_map(page: RunPage) -> str:
    """The map: a canvas, what it is drawn from, and where a chosen image and its neighbours appear."""
    drawn = page.map
    if drawn is None or not len(drawn.tiles):
        return ""
    image, side, columns = _sheet(drawn.tiles)
    classes = [plain(name) for name in page.catalog.classes]
    document = {
        "classes": classes,
        "side": side,
        "columns": columns,
        "images": _entries(page, drawn),
        "unit": page.answers.unit if page.answers else "",
    }
    body = (
        f'<div id="map-box" class="needs-script">{_tools(classes)}{_legend(classes, page.answers is not None and bool(page.answers.mistakes))}{CANVAS}{HINT}'
        '<div id="map-chosen" aria-live="polite"></div></div>'
        '<p class="beware no-script">The map needs JavaScript; everything else on this page works without.</p>'
        f'<img id="map-tiles" alt="" hidden src="{data_uri(image)}">{json_block("map-data", document)}'
    )
    return section("map", "The map", _lead(page, drawn), body)


def _lead(page: RunPage, drawn: PageMap) -> str:
    """What the map shows, and how it may be read."""
    part = (
        ""
        if len(drawn.rows) == len(page.catalog)
        else f" {len(drawn.rows):,} of the {len(page.catalog):,} images are shown."
    )
    layer = escaped(drawn.layer)
    stage = (
        f"stage {layer}, the stage that the model reads"
        if "codes" in page.report.files
        else f"stage {layer} of the trained network"
    )
    return (
        f"Images lie near each other where their codes are near, that is where the network finds them alike. The codes are those of {stage}, brought "
        f"from {drawn.numbers:,} numbers to two by {escaped(drawn.method)}; distances between far groups mean little.{part} "
        "The colour is the true class; mistakes have a thick black frame (white where the page is dark). Zoom in, and more thumbnails appear. Maps of other stages: "
        "<code>cnncodes show map</code> with <code>--layer</code>."
    )


def _tools(classes: list[str]) -> str:
    """Buttons above the map."""
    options = "".join(
        f'<option value="{place}">{escaped(name)}</option>' for place, name in enumerate(classes)
    )
    return (
        '<div class="tools" role="toolbar" aria-label="map"><button type="button" id="map-in" title="zoom in">+</button>'
        '<button type="button" id="map-out" title="zoom out">&minus;</button>'
        '<button type="button" id="map-all">whole map</button>'
        '<button type="button" id="map-style" aria-pressed="false">as points</button>'
        '<label>show <select id="map-filter"><option value="all">all images</option><option value="wrong">mistakes only'
        f"</option>{options}</select></label></div>"
    )


def _legend(classes: list[str], mistakes: bool) -> str:
    """The colours of the first classes, and the frame of mistakes where there are any."""
    keys = "".join(
        f'<span class="key map-class" data-class="{place}">{named(name)}</span>'
        for place, name in enumerate(classes[:MOST_KEYS])
    )
    left = len(classes) - MOST_KEYS
    more = f'<span class="quiet">and {left} more</span>' if left > 0 else ""
    wrong = '<span class="key map-wrong">mistake</span>' if mistakes else ""
    return f'<p class="keys">{keys}{more}{wrong}</p>'


def _sheet(tiles: Bytes) -> tuple[bytes, int, int]:
    """All thumbnails as one WebP file, as good as :data:`LARGEST_FILE` allows; their side, and how many in a row."""
    for quality in SHEET_QUALITIES:
        sheet, columns = sheet_of(tiles)
        image = webp(sheet, quality)
        if len(image) <= LARGEST_FILE:
            return image, tiles.shape[1], columns
    return _sheet(tiles[:, ::2, ::2])


def _entries(page: RunPage, drawn: PageMap) -> list[list[object]]:
    """For each image x, y, class, part, name, neighbours, and the predicted class and sureness where it was tested.

    Places are in ten thousandths; a class is its place, -1 for none.
    """
    said = {answer.row: answer for answer in page.answers.answers} if page.answers else {}
    place_of = {name: place for place, name in enumerate(page.catalog.classes)}
    entries: list[list[object]] = []
    for place, row in enumerate(drawn.rows.tolist()):
        x, y = (round(10_000 * float(value)) for value in drawn.points[place])
        entry: list[object] = [
            x, y, int(page.catalog.labels[row]), int(page.catalog.splits[row]), plain(page.name(row)),
            drawn.neighbours[place].tolist(),
        ]  # fmt: skip
        if row in said:
            entry += [place_of[said[row].predicted], round(said[row].sureness, 3)]
        entries.append(entry)
    return entries
