"""What the commands of `cnncodes show` do alike: find a free place for the picture, and say where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncodes.cli import options
from cnncodes.cli.console import Reporter
from cnncodes.core.words import one_line, quoted, shell

if TYPE_CHECKING:
    from cnncodes.images import Catalog
    from cnncodes.pictures.codes_source import CodesSource
    from cnncodes.pictures.drawing import Figure
    from cnncodes.pictures.question import Question


FIRST_PROBLEMS = 5
MOVED = "--root says where the images are now"


def picture_path(output: str | None, command: str, overwrite: bool, image: str | None = None) -> Path:
    """Where the picture goes, such as ``occlude-photo.png``; refuses early what could not be written after the work."""
    path = Path(output or (f"{command}-{Path(image).stem}.png" if image else f"{command}.png"))
    options.check_picture(path, ".png", overwrite)
    return path


@contextmanager
def codes_at_hand(
    reporter: Reporter,
    data: list[str],
    layer: str | None,
    weights: str | None,
    network: str | None,
    reading: options.Reading,
    device: str,
    workers: int | None,
    split: str = "all",
    limit: int | None = None,
    new_images: bool = False,
    queries: Sequence[str] = (),
) -> Iterator[CodesSource]:
    """:func:`cnncodes.pictures.codes_source.codes_for` with a bar, and a word on what was computed."""
    from cnncodes.pictures.codes_source import codes_for

    images, root = images_or_stored(data, reading)
    with ExitStack() as until_read:
        with reporter.progress("computing codes", 1) as update:
            source = until_read.enter_context(
                codes_for(
                    images, layer=layer, weights=weights, network=network, split=split, limit=limit, root=root, device=device,
                    workers=workers, new_images=new_images, queries=queries,
                    progress=lambda done, total: update(done / total, f"{done:,} of {total:,} images"),
                )
            )  # fmt: skip
        if source.catalog is not None:
            tell_left_out(reporter, source.catalog)
        if source.weights is not None:
            reporter.note(
                f"codes computed for this picture alone (weights {source.weights.name}); 'cnncodes extract' keeps them"
            )
        yield source


def images_or_stored(data: list[str], reading: options.Reading) -> tuple[list[str] | Catalog, str | None]:
    """The catalog of images, or what holds codes and the folder that its images are in now (--root)."""
    from cnncodes.pictures.codes_source import is_stored

    if not is_stored(data):
        return options.read_images(data, reading, stored=False), None
    return options.read_images(data, reading | {"root": None}, stored=True), reading["root"]


def next_on(
    reporter: Reporter,
    command: str,
    data: list[str],
    reading: options.Reading,
    weights: str | None,
    rest: str = "",
) -> None:
    """Another command of this group on the same data, as the next one."""
    words = [
        options.words(data, reading),
        *([f"--weights {shell(weights)}"] if weights else []),
        *([rest] if rest else []),
    ]
    reporter.next(f"cnncodes show {command} {' '.join(words)}")


def named(weights: str, network: str | None) -> str:
    """The options that name the same network in the next command."""
    return f"--weights {shell(weights)}" + (f" --model {shell(network)}" if network else "")


def file_word(path: str) -> str:
    """A file as a word of the next command; one whose name begins with a dash would be taken for an option."""
    return shell(f"./{path}" if path.startswith("-") else path)


def tell_crop(reporter: Reporter, seen: float) -> None:
    """What part of the photograph the network sees; a warning where that is little."""
    from cnncodes.pictures.classifier import NEARLY_ALL, crop_caution, crop_words

    caution = crop_caution(seen)
    if caution:
        reporter.warn(f"beware: {caution}; cut the part that counts out of the photo to show it all")
    elif seen < NEARLY_ALL:
        reporter.note(f"the network sees {crop_words(seen)}")


def tell_unreadable(reporter: Reporter, problems: Mapping[str, str], hint: str = "--json lists all") -> None:
    """The first images that could not be read, with their reasons; never suppressed."""
    for name, reason in list(problems.items())[:FIRST_PROBLEMS]:
        reporter.warn(f"unreadable: {quoted(name)}: {reason}")
    if len(problems) > FIRST_PROBLEMS:
        reporter.warn(f"... and {len(problems) - FIRST_PROBLEMS:,} more; {hint}")


def tell_question(reporter: Reporter, question: Question) -> None:
    """Which class is asked about and what the network says of it; a warning where that is little."""
    reporter.result(one_line(question.title))
    if question.doubt:
        reporter.warn(f"beware: {one_line(question.doubt)}")
    tell_crop(reporter, question.seen)


def tell_left_out(reporter: Reporter, catalog: Catalog) -> None:
    """Files of the folder that were taken for no images, and what else there is to know of the reading."""
    for text in filter(None, (catalog.describe_left_out(), *catalog.notes)):
        reporter.note(text)


def finish(reporter: Reporter, figure: Figure, path: Path, document: dict[str, Any]) -> None:
    """Write the picture and say so; ``document`` is what --json gives besides its path."""
    from cnncodes.pictures.drawing import save_png

    save_png(figure, path)
    reporter.result(f"written: {path}")
    reporter.document({"picture": str(path), **document})
