"""A name of the page's modules until they take it from :mod:`cnncodes.pictures.codes_source`."""

from cnncodes.pictures.codes_source import evenly

__all__ = ["evenly"]
