"""The end of a page: the map of the codes, pictures of the network, how to repeat and how to predict."""

from __future__ import annotations

import shlex

from cnncodes.pictures.report.markup import (
    command,
    data_uri,
    escaped,
    folded,
    listing,
    section,
    several_lines,
)
from cnncodes.pictures.report.record import NetworkPicture, RunPage

FILES = {
    "model": "the model",
    "split": "which image learns and which tests",
    "recipe": "the recipe with every number",
    "report": "everything on this page, for programs",
    "advice": "the advice, for programs",
    "codes": "the CNN codes of all images",
    "training": "the training: curves, checkpoints, events for TensorBoard",
}


def network(page: RunPage) -> str:
    """Pictures of the network."""
    figures = "".join(_figure(drawn) for drawn in page.pictures)
    return section(
        "network", "The network", "What the model has learned to look for, and where it looks.", figures
    )


def _figure(drawn: NetworkPicture) -> str:
    """A picture with its title and what there is to see; a wide one is moved sideways on a telephone."""
    kind = ' class="wide"' if drawn.width > 1.5 * drawn.height else ""
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
    steps = ", ".join(
        f"{escaped(step)} {seconds:.1f} s" for step, seconds in report.seconds.items() if seconds >= 0.05
    )
    return section(
        "repeat",
        "Use it, repeat it",
        "",
        f"<h3>Ask the model about a new photograph</h3>{command(report.command)}",
        f"<h3>Test it on other labelled images</h3>{command(f'cnncodes evaluate {model} more-photos/')}",
        f"<h3>Do the same again, anew</h3>{command(page.command if '--overwrite' in page.command else page.command + ' --overwrite')}",
        f"<h3>Make this page again</h3>{command(f'cnncodes report {again}')}",
        f"<h3>What lies in the folder <code>{escaped(report.folder)}</code></h3>{listing(files, 'plain')}",
        folded(
            "the recipe with every number",
            f'<pre class="command"><code>{several_lines(report.recipe_text)}</code></pre>',
        ),
        f'<p class="quiet">Made with {versions}. Computing took {sum(report.seconds.values()):.1f} s: {steps}.</p>',
    )
