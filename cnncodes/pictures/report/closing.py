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
from cnncodes.pictures.report.overview import weights_of
from cnncodes.pictures.report.record import NetworkPicture, RunPage

#: What a run and its page leave in the folder, in this order.
FILES = {
    "model.safetensors": "the model",
    "report.html": "this page, unless it was given another name",
    "report.json": "everything on this page, for programs",
    "confusion.png": "picture: which class is taken for which",
    "depth.png": "picture: what each stage knows about the classes",
    "curves.png": "picture: the training",
    "split.csv": "which image learns and which tests",
    "recipe.toml": "the recipe with every number",
    "advice.json": "the advice, for programs",
    "codes.h5": "the CNN codes of all images, from the last stages",
    "layers.h5": "the CNN codes that the recipe asks for",
    "page.h5": "the codes behind the map of this page",
    "training": "folder: curves, events for TensorBoard",
    "run.json": "how the run was started, so that it can go on after an interruption",
}
#: What the pictures of the network are of, by the method of the recipe.
SHOWN = {
    "linear": "What the network looks for, which it brought along (only the head on top learned from your images), and where the "
    "model looks.",
    "finetune": "What the network looks for after it went on learning from your images, and where it looks.",
    "train": "What the network has learned to look for, and where it looks.",
}

UNLEARNED = "The network's numbers are random; only the head on top learned from your images."


def network(page: RunPage) -> str:
    """Pictures of the network."""
    figures = "".join(_figure(drawn) for drawn in page.pictures)
    random = page.report.method == "linear" and weights_of(page).startswith("random")
    return section("network", "The network", UNLEARNED if random else SHOWN[page.report.method], figures)


def _figure(drawn: NetworkPicture) -> str:
    """A picture with its title and what there is to see; a wide one is moved sideways on a telephone."""
    wide = drawn.width > 1.5 * drawn.height
    kind = ' class="wide"' if wide else ""
    hint = '<p class="quiet sideways">Move the picture sideways to see all of it.</p>' if wide else ""
    image = (
        f'<img{kind} src="{data_uri(drawn.image)}" width="{drawn.width}" height="{drawn.height}" '
        f'alt="{escaped(drawn.title)}">'
    )
    return (
        f'<figure class="picture"><h3>{escaped(drawn.title)}</h3>{hint}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escaped(drawn.title)}">{image}</div><figcaption>{escaped(drawn.text)}</figcaption></figure>'
    )


def repeat(page: RunPage) -> str:
    """Commands, files, recipe and versions."""
    report = page.report
    files = [
        f"<code>{escaped(name)}</code>: {escaped(FILES[name])}" for name in FILES if name in page.in_folder
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
