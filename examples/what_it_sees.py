"""What in an image makes the network say what it says? Grad-CAM and a sliding grey patch.

    python examples/what_it_sees.py                       # a drawn spider
    python examples/what_it_sees.py photo.jpg --weights imagenet

Writes gradcam.png and occlude.png into this folder.
"""

from __future__ import annotations

import argparse

import numpy as np

from cnncodes.advice.demo_images import meadow_folder
from cnncodes.pictures import attribute, draw_attribution, draw_occlusion, occlude
from cnncodes.pictures.classifier import load_classifier, see_image
from cnncodes.pictures.drawing import save_figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", nargs="?", default=str(meadow_folder() / "test" / "spider" / "21.jpg"))
    parser.add_argument("--weights", default="starter")
    arguments = parser.parse_args()

    subject = load_classifier(arguments.weights)
    view = see_image(arguments.image, subject)
    chances = subject.values(subject.scores(view.pixels))[0].detach().numpy()
    for place in np.argsort(-chances)[:3]:
        print(f"{chances[place]:6.1%}  {subject.classes[place]}")

    print("written:", save_figure(draw_attribution(attribute(subject, view, "gradcam")), "gradcam.png"))
    covered = occlude(subject, view, patch=48, stride=24)
    print("written:", save_figure(draw_occlusion(covered), "occlude.png"))


if __name__ == "__main__":
    main()
