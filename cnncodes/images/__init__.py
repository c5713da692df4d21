"""From paths to pixels: the catalog of images, decoding, crops, and the parallel loader.

Names are loaded on first use, so that importing this package costs nothing; Pillow is imported only
when an image is decoded. One function is not among them, since it has the name of its module:
``from cnncodes.images.decode import decode``.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
