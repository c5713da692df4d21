"""The end of a page: the map of the codes, pictures of the network, how to repeat and how to predict."""

from __future__ import annotations

import shlex

from cnncodes.pictures.drawing import plain
from cnncodes.pictures.report.images import Bytes, sheet_of, webp
from cnncodes.pictures.report.markup import (
    command,
    data_uri,
    escaped,
    folded,
    json_block,
    listing,
    section,
    several_lines,
)
from cnncodes.pictures.report.record import NetworkPicture, RunPage

SHEET_QUALITIES = (62, 45, 30)  # of the map's thumbnails: the first with which they fit
LARGEST_FILE = 5_000_000  # bytes of all thumbnails of the map
FILES = {
    "model": "the model",
    "split": "which image learns and which tests",
    "recipe": "the recipe with every number",
    "report": "everything on this page, for programs",
    "advice": "the advice, for programs",
    "codes": "the CNN codes of all images",
    "training": "the training: curves, checkpoints, events for TensorBoard",
}


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
        "images": _entries(page),
        "unit": page.answers.unit if page.answers else "",
    }
    options = "".join(
        f'<option value="{place}">{escaped(name)}</option>' for place, name in enumerate(classes)
    )
    legend = "".join(
        f'<span class="key map-class" data-class="{place}">{escaped(name)}</span>'
        for place, name in enumerate(classes[:12])
    )
    left = f'<span class="quiet">and {len(classes) - 12} more</span>' if len(classes) > 12 else ""
    part = (
        ""
        if len(drawn.rows) == len(page.catalog)
        else f" {len(drawn.rows):,} of the {len(page.catalog):,} images are shown."
    )
    lead = (
        f"Every image stands where its CNN codes put it ({escaped(drawn.layer)}, {escaped(drawn.method)}): near images look alike to the "
        f"network. Distances between far groups mean little.{part} Mistakes have a red ring. Zoom in, and more thumbnails appear."
    )
    tools = (
        '<div class="tools" role="toolbar" aria-label="map"><button type="button" id="map-in" title="zoom in">+</button>'
        '<button type="button" id="map-out" title="zoom out">&minus;</button><button type="button" id="map-all">whole map</button>'
        '<button type="button" id="map-style" aria-pressed="false">as points</button>'
        f'<label>show <select id="map-filter"><option value="all">all images</option><option value="wrong">mistakes only</option>{options}</select></label></div>'
    )
    body = (
        f'<div id="map-box" class="needs-script">{tools}<div class="map-area"><canvas id="map-canvas" tabindex="0" role="application" '
        'aria-label="Map of the images. Arrow keys move, plus and minus zoom, Enter chooses the image in the middle."></canvas>'
        '<div id="map-tip" hidden></div></div><p class="quiet">Move the pointer over an image for its name; click it for its neighbours. Drag to '
        "move; the wheel zooms after a click into the map; on a touch screen use two fingers.</p>"
        f'<p class="keys">{legend}{left}</p><div id="map-chosen" aria-live="polite"></div></div>'
        '<p class="beware no-script">The map needs JavaScript; everything else on this page works without.</p>'
        f'<img id="map-tiles" alt="" hidden src="{data_uri(image)}">{json_block("map-data", document)}'
    )
    return section("map", "The map", lead, body)


def _sheet(tiles: Bytes) -> tuple[bytes, int, int]:
    """All thumbnails as one WebP file, as good as :data:`LARGEST_FILE` allows; their side, and how many in a row."""
    for quality in SHEET_QUALITIES:
        sheet, columns = sheet_of(tiles)
        image = webp(sheet, quality)
        if len(image) <= LARGEST_FILE:
            return image, tiles.shape[1], columns
    return _sheet(tiles[:, ::2, ::2])


def _entries(page: RunPage) -> list[list[object]]:
    """For each image x, y, class, part, name, neighbours, and the predicted class and sureness where it was tested.

    Places are in ten thousandths; a class is its place, -1 for none.
    """
    assert page.map is not None
    said = {answer.row: answer for answer in page.answers.answers} if page.answers else {}
    place_of = {name: place for place, name in enumerate(page.catalog.classes)}
    entries: list[list[object]] = []
    for place, row in enumerate(page.map.rows.tolist()):
        x, y = (round(10_000 * float(value)) for value in page.map.points[place])
        entry: list[object] = [
            x, y, int(page.catalog.labels[row]), int(page.catalog.splits[row]), plain(page.name(row)),
            page.map.neighbours[place].tolist(),
        ]  # fmt: skip
        if row in said:
            entry += [place_of[said[row].predicted], round(said[row].sureness, 3)]
        entries.append(entry)
    return entries


def network(page: RunPage) -> str:
    """Pictures of the network."""
    figures = "".join(_figure(drawn) for drawn in page.pictures)
    return section(
        "network", "The network", "What the model has learned to look for, and where it looks.", figures
    )


def _figure(drawn: NetworkPicture) -> str:
    """A picture with its title and what there is to see; a wide one is moved sideways on a telephone."""
    kind = ' class="wide"' if drawn.width > 1.8 * drawn.height else ""
    image = (
        f'<img{kind} src="{data_uri(drawn.image)}" width="{drawn.width}" height="{drawn.height}" '
        f'alt="{escaped(drawn.title)}">'
    )
    return (
        f'<figure class="picture"><h3>{escaped(drawn.title)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escaped(drawn.title)}">{image}</div><figcaption>{escaped(drawn.text)}</figcaption></figure>'
    )


def repeat(page: RunPage) -> str:
    """Commands, files, recipe and versions."""
    report = page.report
    files = [
        f"<code>{escaped(name)}</code>: {escaped(FILES.get(kind, kind))}"
        for kind, name in report.files.items()
    ]
    model = shlex.quote(report.model)
    again = shlex.quote(report.folder)
    versions = ", ".join(f"{escaped(name)} {escaped(version)}" for name, version in report.versions.items())
    steps = ", ".join(f"{escaped(step)} {seconds:.1f} s" for step, seconds in report.seconds.items())
    return section(
        "repeat",
        "Use it, repeat it",
        "",
        f"<h3>Ask the model about a new photograph</h3>{command(report.command)}",
        f"<h3>Test it on other labelled images</h3>{command(f'cnncodes evaluate {model} more-photos/')}",
        f"<h3>Do the same again</h3>{command(page.command)}",
        f"<h3>Make this page again</h3>{command(f'cnncodes report {again}')}",
        f"<h3>What lies in the folder <code>{escaped(report.folder)}</code></h3>{listing(files, 'plain')}",
        folded(
            "the recipe with every number",
            f'<pre class="command"><code>{several_lines(report.recipe_text)}</code></pre>',
        ),
        f'<p class="quiet">Made with {versions}. Time: {steps}.</p>',
    )
