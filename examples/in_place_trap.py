"""What torchvision's in-place ReLUs do to features, and the same question asked of cnncodes.

    python examples/in_place_trap.py

AlexNet's ReLUs write over their input. Who asks torchvision's feature extractor for a layer before and after
its ReLU gets the same tensor twice; who asks for the first alone gets other numbers. Nothing warns.
"""

from __future__ import annotations

import argparse

import torch
from torchvision.models import alexnet
from torchvision.models.feature_extraction import create_feature_extractor

import cnncodes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="random:0", help="imagenet, random:SEED or a file")
    weights = cnncodes.load_weights(parser.parse_args().weights, network="alexnet")
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    # The six lines: classifier.4 is fc7 before its ReLU, classifier.5 is that ReLU.
    model = alexnet().eval()
    model.load_state_dict(dict(weights.tensors))
    with torch.inference_mode():
        both = create_feature_extractor(model, ["classifier.4", "classifier.5"])(pixels)
        alone = create_feature_extractor(model, ["classifier.4"])(pixels)
    print("torchvision: asked for both, the two layers are equal:", torch.equal(*both.values()))
    print("torchvision: negative values before the ReLU:", int((both["classifier.4"] < 0).sum()))
    print(
        "torchvision: asked for alone, it is the same:",
        torch.equal(both["classifier.4"], alone["classifier.4"]),
    )

    network = cnncodes.build_network(weights)
    with torch.inference_mode():
        ours = network.activations(pixels, "fc7:linear,fc7")
        ours_alone = network.activations(pixels, "fc7:linear")
    print("cnncodes: asked for both, the two layers are equal:", torch.equal(*ours.values()))
    print("cnncodes: negative values before the ReLU:", int((ours["fc7:linear"] < 0).sum()))
    print(
        "cnncodes: asked for alone, it is the same:",
        torch.equal(ours["fc7:linear"], ours_alone["fc7:linear"]),
    )


if __name__ == "__main__":
    main()
