"""`cnncodes show fool`: the smallest step found that makes another answer sure."""

from __future__ import annotations

from pathlib import Path

from cnncodes.cli import options, show_options
from cnncodes.cli.console import Reporter
from cnncodes.cli.show.common import file_word, finish, named, picture_path
from cnncodes.core.errors import OptionError
from cnncodes.core.words import one_line


def fool(
    image: show_options.Image,
    weights: show_options.Classifier = "imagenet",
    network: options.Network = None,
    to: show_options.FoolTo = None,
    limit: show_options.Limit = 32,
    confidence: show_options.Confidence = 0.9,
    keep: show_options.Keep = None,
    output: show_options.Picture = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """How little must change before the network is sure of something else?

    Steps along the sign of the gradient (Goodfellow et al. 2015), many small ones inside a box (Kurakin et al.
    2017); boxes are tried in whole grey levels, and the smallest found is shown in which the other class has 90 %
    (--confidence). A few levels of 255, which nobody sees, are usual: what a network answers is no proof of what it
    has understood.

    Without --to it is the most probable class that has less than half of the answer's probability: to swap two
    that were nearly alike shows nothing. Where there is none, and for an SVM's scores, it is the second class.

        cnncodes show fool photo.jpg --weights starter

        cnncodes show fool bee.jpg --weights run/model.safetensors --to ants --keep fooled.png
    """
    from cnncodes.images.decode import write_png
    from cnncodes.pictures.classifier import load_classifier, see_image
    from cnncodes.pictures.fooling import draw_fooled, in_whole
    from cnncodes.pictures.fooling import fool as compute
    from cnncodes.pictures.question import ask

    reporter = Reporter(json, quiet)
    path = picture_path(output, "fool", overwrite, image)
    if keep is not None:
        options.check_free(keep, overwrite, ".png", "an image that fools", "--keep")
        if Path(keep).resolve() == path.resolve():
            raise OptionError(f"'{keep}' is asked for twice.", "Give -o and --keep different names.")
    subject = load_classifier(weights, network=network, device=device)
    view = see_image(image, subject)
    with reporter.progress("searching a small step", 100) as update:
        found = compute(
            subject,
            view,
            to,
            limit,
            confidence,
            lambda _, done, total, word: update(100 * done / total, word),
        )
    reporter.result(
        f"{one_line(found.describe())}: no pixel changes by more than {found.epsilon} of 255 grey levels"
    )
    for caution in found.cautions:
        reporter.warn(f"beware: {one_line(caution)}")
    document = found.to_json()
    if keep is not None:
        write_png(Path(keep), in_whole(found, image, subject.preprocessing))
        again = ask(subject, see_image(keep, subject)).predicted
        document |= {"kept": keep, "kept_class": again}
        reporter.result(f"written: {keep}, read again it is '{one_line(again)}'")
    finish(reporter, draw_fooled(found), path, document)
    reporter.next(f"cnncodes show saliency {file_word(keep or image)} {named(weights, network)}")
