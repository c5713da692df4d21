"""Advice: recipes, what they say, and where they are. The public names stand in ``__init__.pyi`` and are loaded when used."""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
