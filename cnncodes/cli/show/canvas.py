"""What the commands of `cnncodes show` share: which network is asked, and where the picture goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import pictures
from cnncodes.cli import options
from cnncodes.cli.arguments import check_picture
from cnncodes.cli.console import Reporter, plain
from cnncodes.core.errors import OptionError
from cnncodes.core.words import one_line, shell

if TYPE_CHECKING:
    from cnncodes.images import Catalog
    from cnncodes.pictures.classifier import Question
    from cnncodes.pictures.drawing import Figure


@dataclass
class NetworkChoice(options.Group):
    """The network or model that pictures are about, loaded once for all of them."""

    weights: options.Classifier = "imagenet"
    model: options.Network = None
    device: options.Device = "auto"
    _loaded: pictures.Classifier | None = field(default=None, init=False, repr=False)
    _seen: dict[str, pictures.SeenImage] = field(default_factory=dict, init=False, repr=False)

    def load(self) -> pictures.Classifier:
        """The network with its classes."""
        if self._loaded is None:
            self._loaded = pictures.load_classifier(self.weights, network=self.model, device=self.device)
        return self._loaded

    def see(self, image: str) -> tuple[pictures.Classifier, pictures.SeenImage]:
        """The network, and the image as it sees it."""
        classifier = self.load()
        if image not in self._seen:
            self._seen[image] = pictures.see_image(image, classifier)
        return classifier, self._seen[image]

    @property
    def words(self) -> str:
        """The options that name the same network in the next command."""
        return f"--weights {shell(self.weights)}" + (f" --model {shell(self.model)}" if self.model else "")


class Canvas(Reporter):
    """Prints for one command, and writes its picture."""

    def __init__(
        self,
        output: options.Picture = None,
        overwrite: options.Overwrite = False,
        title: options.PictureTitle = None,
        width: options.PictureWidth = None,
        dpi: options.Dpi = 144,
        json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        super().__init__(json, quiet)
        self._output, self.overwrite, self.path = output, overwrite, Path()
        self.title, self.width, self.dpi = title, width, dpi

    def open(self, command: str, image: str | None = None) -> None:
        """Name the picture, such as ``occlude-photo.png``; refuses early what could not be written after the work."""
        self.path = Path(self._output or (f"{command}-{Path(image).stem}.png" if image else f"{command}.png"))
        check_picture(self.path, self.overwrite)
        if self.width is not None and self.path.suffix.lower() != ".png":
            raise OptionError(
                f"--width is for a PNG, and '{self.path.name}' can be shown at any size.", "Leave it out."
            )

    def draw(self, figure: Callable[[], Figure], record: Any, /, **more: Any) -> None:
        """Draw the picture and write it; the record is what --json prints besides its path."""
        self.write(figure, self.path)
        self.document({"picture": str(self.path), **plain(record), **more})

    def write(self, figure: Callable[[], Figure], path: str | Path) -> None:
        """Draw a picture as title, width and resolution say, and say where it is."""
        from cnncodes.pictures.drawing import titled

        with titled(self.title):
            pictures.save_figure(figure(), path, dpi=self.dpi, width=self.width)
        self.result(f"written: {path}")

    def crop(self, seen: float) -> None:
        """What part of the image the network sees; a warning if that is little."""
        from cnncodes.images.preprocess import NEARLY_ALL
        from cnncodes.pictures.classifier import crop_caution, crop_words

        if caution := crop_caution(seen):
            remedy = "crop the image to its subject, or use a model fitted with --fit pad"
            self.warn(f"beware: {caution}; {remedy}")
        elif seen < NEARLY_ALL:
            self.note(f"the network sees {crop_words(seen)}")

    def question(self, question: Question) -> None:
        """Which class is explained and what the network predicts for it; a warning if that is little."""
        from cnncodes.pictures.classifier import knows_only

        self.result(one_line(f"{question.title} ({question.image}, {question.model})"))
        if few := knows_only(question.known):
            self.note(f"'{one_line(question.model)}': {one_line(few)}")
        if question.doubt:
            self.warn(f"beware: {one_line(question.doubt)}")
        self.crop(question.seen)

    def left_out(self, catalog: Catalog) -> None:
        """Files of the folder that are not images, and other notes on the reading."""
        for text in filter(None, (catalog.describe_left_out(), *catalog.notes)):
            self.note(text)


def file_word(path: str) -> str:
    """A file as a word of the next command; one whose name begins with a dash would be taken for an option."""
    return shell(f"./{path}" if path.startswith("-") else path)
