"""A map of images: alike codes lie close together, and each image is drawn at its place.

    python examples/codes_map.py

Writes codes.h5 and map.png into this folder.
"""

from __future__ import annotations

from pathlib import Path

import cnncodes
from cnncodes.advice.demo_images import meadow_folder
from cnncodes.pictures import draw_map, read_map
from cnncodes.pictures.drawing import save_figure


def main() -> None:
    catalog = cnncodes.read_catalog(meadow_folder())
    codes = Path("codes.h5")
    cnncodes.extract(catalog, codes, cnncodes.load_weights("starter"), layers="pool5")

    found = read_map(codes, method="tsne", seed=0)
    print("written:", save_figure(draw_map(found), "map.png"))


if __name__ == "__main__":
    main()
