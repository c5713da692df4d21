"""What the commands of `cnncodes show` share: which network is asked, and where the picture goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes import pictures
from cnncodes.cli import options
from cnncodes.cli.arguments import check_picture
from cnncodes.cli.console import Reporter, plain
from cnncodes.core.words import one_line, shell

if TYPE_CHECKING:
    from cnncodes.images import Catalog
    from cnncodes.pictures import Classifier, SeenImage
    from cnncodes.pictures.drawing import Figure
    from cnncodes.pictures.question import Question


@dataclass(frozen=True)
class NetworkChoice(options.Group):
    """The network or model that a picture is about."""

    weights: options.Classifier = "imagenet"
    model: options.Network = None
    device: options.Device = "auto"

    def load(self) -> Classifier:
        """The network with its classes."""
        return pictures.load_classifier(self.weights, network=self.model, device=self.device)

    def see(self, image: str) -> tuple[Classifier, SeenImage]:
        """The network, and the image as it sees it."""
        classifier = self.load()
        return classifier, pictures.see_image(image, classifier)

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
        json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        super().__init__(json, quiet)
        self._output, self.overwrite, self.path = output, overwrite, Path()

    def open(self, command: str, image: str | None = None) -> None:
        """Name the picture, such as ``occlude-photo.png``; refuses early what could not be written after the work."""
        self.path = Path(self._output or (f"{command}-{Path(image).stem}.png" if image else f"{command}.png"))
        check_picture(self.path, ".png", self.overwrite)

    def draw(self, figure: Figure, record: Any, /, **more: Any) -> None:
        """Write the picture and say so; the record is what --json prints besides its path."""
        pictures.save_png(figure, self.path)
        self.result(f"written: {self.path}")
        self.document({"picture": str(self.path), **plain(record), **more})

    def crop(self, seen: float) -> None:
        """What part of the image the network sees; a warning if that is little."""
        from cnncodes.images.preprocess import NEARLY_ALL
        from cnncodes.pictures.classifier import crop_caution, crop_words

        caution = crop_caution(seen)
        if caution:
            self.warn(
                f"beware: {caution}; crop the image to its subject, or use a model fitted with --fit pad"
            )
        elif seen < NEARLY_ALL:
            self.note(f"the network sees {crop_words(seen)}")

    def question(self, question: Question) -> None:
        """Which class is explained and what the network predicts for it; a warning if that is little."""
        self.result(one_line(question.title))
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
