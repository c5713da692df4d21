"""`cnncodes show all`: every picture of one image, and a page of them, for a lesson or a talk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnncodes.cli import options
from cnncodes.cli.arguments import check_folder
from cnncodes.cli.console import Reporter
from cnncodes.cli.show import one_image
from cnncodes.cli.show.canvas import Canvas, NetworkChoice
from cnncodes.core.errors import CnnCodesError, OutputExistsError
from cnncodes.core.words import counted, one_line

INDEX = "index.html"
#: Of each picture on the page its subject, and what to look for.
SUBJECTS = {
    "activations": (
        "Activations: what the units of a layer respond to here",
        "Bright places are where a unit found its pattern; a dark map means that the pattern is not in the photo.",
    ),
    "occlude": (
        "Occlusion: what happens when a patch is covered",
        "See whether the red places, where covering lowers the class, lie on the object or on the background.",
    ),
    "attributions": (
        "Attributions: which pixels speak for the class",
        "See which parts Grad-CAM marks; the finer methods show outlines, much the same for every class.",
    ),
    "invert": (
        "Inversion: what is left of the photo in the code of a layer",
        "From layer to layer, see what gets lost first: positions, edges or colours.",
    ),
    "fool": (
        "A fooled network: the smallest change that makes it wrong",
        "Look for the difference between the first and the last image; most people see none.",
    ),
    "dense": (
        "Classes by place: what each window of the photo shows",
        "See whether the bright places of each class lie where its object is.",
    ),
    "augment": (
        "Augmentation: views of the photo as a training sees them",
        "Check that the object is still visible, and still what its class says, in every view.",
    ),
}


class Slides(Reporter):
    """Prints for `show all`, and knows the folder of its pictures."""

    def __init__(
        self,
        output: options.Slides,
        overwrite: options.Overwrite = False,
        title: options.SlidesTitle = None,
        width: options.PictureWidth = None,
        dpi: options.Dpi = 144,
        json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        super().__init__(json, quiet)
        self.folder, self.overwrite, self.title = Path(output), overwrite, title
        self.width, self.dpi = width, dpi

    def open(self, names: list[str]) -> None:
        """Refuse early what could not be written after the work."""
        files = [INDEX, *(f"{name}.png" for name in names)]
        check_folder(self.folder, files)
        there = [name for name in files if (self.folder / name).exists()]
        if there and not self.overwrite:
            raise OutputExistsError(
                f"'{self.folder / there[0]}' exists already.",
                "Choose another folder with -o, or use --overwrite.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)


class _Slide(Canvas):
    """The canvas of one picture: what its command would print is kept for the page."""

    def __init__(self, slides: Slides, name: str) -> None:
        path = slides.folder / f"{name}.png"
        super().__init__(str(path), True, None, slides.width, slides.dpi, False, slides.quiet)
        self.lines: list[str] = []
        self.record: dict[str, Any] = {}

    def result(self, text: str = "") -> None:
        if not text.startswith("written: "):
            self.lines.append(text)

    warn = result

    def note(self, text: str) -> None:
        """Nothing: notes and next commands are for who draws one picture."""

    def document(self, record: Any = None, /, **entries: Any) -> None:
        self.record = {**(record or {}), **entries}


def all_(
    slides: Slides,
    image: options.Image,
    network: NetworkChoice,
    class_name: options.ClassName = None,
) -> None:
    """Draw every picture of one image, and a page of them.

    The pictures of activations, occlude, saliency, guided, deconv and gradcam, invert, fool, dense and augment, as many as the
    network allows, and index.html with all of them and what each says, in one file that can be passed on. The network is
    loaded once.

        cnncodes show all photo.jpg --weights starter -o slides/
        cnncodes show all bee.jpg --weights run/model.safetensors --class bees -o slides/ --title "Ants and bees"
    """
    from cnncodes.page.gallery import Slide, write_slides

    made: list[tuple[str, Callable[..., None], dict[str, Any]]] = [
        ("activations", one_image.activations, {}),
        ("occlude", one_image.occlude, {"class_name": class_name}),
        ("attributions", one_image.ATTRIBUTIONS["saliency"], {"class_name": class_name, "every": True}),
        ("invert", one_image.invert, {}),
        ("fool", one_image.fool, {}),
        ("dense", one_image.dense, {"class_name": class_name}),
        ("augment", one_image.augment, {}),
    ]
    slides.open([name for name, _, _ in made])
    classifier, seen = network.see(image)
    if class_name is not None:
        classifier.class_place(class_name)  # a wrong name is one mistake, not one for each picture
    drawn, left_out = [], {}
    with slides.progress("drawing", len(made), "pictures") as update:
        for place, (name, command, asked) in enumerate(made):
            update(place, name)
            slide = _Slide(slides, name)
            given: dict[str, Any] = {"network": network}
            if name == "augment":  # shows a training, which starts from weights
                given = {"weights": classifier.weights.name if classifier.head else network.weights}
                given["model"] = network.model
            try:
                command(slide, image=image, **asked, **given)
            except CnnCodesError as error:
                left_out[name] = error.problem
                continue
            drawn.append(Slide(name, *SUBJECTS[name], slide.path, tuple(slide.lines), slide.record))
        update(len(made), "")
    if not drawn:
        raise CnnCodesError(
            f"none of the pictures can be drawn: {next(iter(left_out.values()))}", "Try another network."
        )
    index = slides.folder / INDEX
    own, about = f"What the network sees in {seen.name}", f"Network: {classifier.name}"
    about = f"{own}. {about}" if slides.title else about
    write_slides(drawn, left_out, index, title=slides.title or own, about=about)
    for each in drawn:
        slides.result(f"written: {each.path}")
    for name, problem in left_out.items():
        slides.warn(f"left out: {name}: {one_line(problem)}")
    slides.result(f"written: {index} ({counted(len(drawn), 'picture')})")
    slides.document({"index": str(index), "pictures": [each.record for each in drawn], "left_out": left_out})
    slides.next(f"cnncodes show strongest photos/ {network.words}")
