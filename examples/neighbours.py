"""The nearest images of an image: by the network's codes, and by plain pixels.

    python examples/neighbours.py

Writes codes.h5 and neighbours.png into this folder.
"""

from __future__ import annotations

from pathlib import Path

import cnncodes
from cnncodes.advice.demo_images import meadow_folder
from cnncodes.pictures import draw_neighbours, find_neighbours
from cnncodes.pictures.drawing import save_figure

QUERIES = ("test/dragonfly/21.jpg", "test/spider/21.jpg", "test/beetle/24.jpg")


def main() -> None:
    codes = Path("codes.h5")
    weights = cnncodes.load_weights("starter")
    cnncodes.extract(cnncodes.read_catalog(meadow_folder()), codes, weights, layers="pool5")

    found = find_neighbours(codes, QUERIES, k=6)
    for query in found.queries:
        print(f"{query.name}:")
        print("  by codes: ", ", ".join(near.name for near in query.by_codes[:3]))
        print("  by pixels:", ", ".join(near.name for near in query.by_pixels[:3]))
    for name in ("by_codes", "by_pixels"):
        print(f"of the query's class, {name.replace('_', ' ')}: {found.share(name):.0%}")
    print("written:", save_figure(draw_neighbours(found), "neighbours.png"))


if __name__ == "__main__":
    main()
