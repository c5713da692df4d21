"""Names of the page's modules until they take those of :mod:`cnncodes.pictures.classifier`."""

from cnncodes.pictures.classifier import Classifier as Subject
from cnncodes.pictures.classifier import SeenImage as View
from cnncodes.pictures.classifier import load_classifier as load_subject
from cnncodes.pictures.classifier import see_image as view_of

__all__ = ["Subject", "View", "load_subject", "view_of"]
