"""How far a long computation is, and how long one answer takes."""

from __future__ import annotations

import itertools
import os
import timeit
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from tqdm import tqdm

#: Calls that a time is the median of.
CALLS = 20


def bar(items: Iterable | None = None, **options: Any) -> tqdm:
    """Items with a bar, in a notebook that somebody watches; executed notebooks never hold one."""
    # Jupyter's server sets the variable for its own kernels.
    return tqdm(items, leave=False, disable="JPY_SESSION_NAME" not in os.environ, **options)


def time_per_item(call: Callable[[int], object], items: int) -> dict[str, object]:
    """Seconds of wall time that ``call`` takes with the position of an item, after a warm-up.

    Each call's time is kept in order, so that times of stages can be added.
    """
    turn = itertools.cycle(range(items))
    call(0)
    spent = timeit.repeat(lambda: call(next(turn)), number=1, repeat=CALLS)
    median, p95 = (round(float(part), 5) for part in np.percentile(spent, [50, 95]))
    return {"median": median, "p95": p95, "calls": CALLS, "each": [round(s, 5) for s in spent]}
