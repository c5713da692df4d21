"""Transfer learning with AlexNet: images to CNN codes to a classifier, with evidence."""
