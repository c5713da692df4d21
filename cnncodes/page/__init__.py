"""The page of a run: one HTML file that contains everything it shows and makes no request.

``gather`` reads the run's folder into a :class:`RunPage` of records and numbers, ``views`` arranges them (charts, tables, map),
``templates/`` has every sentence, and ``html`` puts them together. The public names stand in ``__init__.pyi``.
"""

from cnncodes.core.lazy import attach

__getattr__, __dir__ = attach(__file__)
