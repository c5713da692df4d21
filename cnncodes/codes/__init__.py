"""Codes: the HDF5 file (create, write rows, resume, read), extraction, check and export.

Names are loaded when they are first asked for; importing this room loads neither torch nor h5py.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
