"""Helper library of the companion to EL-Bana et al. 2020 (medRxiv 2020.06.24.20139238).

Five floors, each importing only from itself or from a floor below: ``report``, ``evaluation``,
``training``, ``models``, ``data``. The ground floor (``paths``, ``params``, ``errors``, ``runs``)
is open to all of them.
"""

__version__ = "0.1.0"
