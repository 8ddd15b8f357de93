"""How far a long computation is: one line below its cell, of which nothing is stored.

What computes calls `tell`, which only logs. In a notebook that somebody watches `line` shows the
latest of it; papermill and nbval watch nothing, so executed notebooks never hold it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LOG = logging.getLogger(__name__)


def tell(done: int, total: int, what: str) -> None:
    """Log that ``done`` of ``total`` steps are behind; ``what`` says of what, in a few words."""
    _LOG.info("%s", what, extra={"share": done / total})


@contextmanager
def line() -> Iterator[None]:
    """Show what is told within the block, and the time left; nothing of it when the block ends."""
    if "JPY_SESSION_NAME" not in os.environ:  # Jupyter's server sets it for its own kernels
        yield
        return
    from IPython.display import clear_output

    handler = _Line()
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        clear_output()


class _Line(logging.Handler):
    def __init__(self):
        super().__init__()
        self._started = self._latest = time.monotonic()
        self._share = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        from IPython.display import Pretty, clear_output, display

        now, share = time.monotonic(), record.share
        if share < self._share:  # another computation has begun
            self._started = self._latest
        self._latest, self._share = now, share
        left = (now - self._started) * (1 / share - 1)
        clear_output(wait=True)
        display(Pretty(f"{record.getMessage()}, about {left:.0f} s left"))
