"""The environment of every process that computes, fixed in one place.

The number of threads, oneDNN and AVX-512 change the last digits of a result; the user's own
settings of Keras, IPython and Matplotlib change more. So notebooks' kernels and tests start through
this script: ``python workflow/environment.py COMMAND`` replaces itself by the command in that
environment. The kernel that ``make setup`` installs does so, hence JupyterLab, papermill by hand
and ``make`` compute the same.

Two variables choose:

* ``COVID_EXACT``: 1 (the default) rounds alike on every processor, as stored outputs need; 0 lets
  oneDNN and AVX-512 halve the time of a training.
* ``COVID_THREADS``: threads of one process, 1 by default. Jobs run side by side instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

#: Beginnings of variables that a computing process must not take over from the user. Keras's home
#: stays, because its weights are there; `training.reproducible` overrules the settings beside them.
FOREIGN = ("KERAS_", "IPYTHON", "MATPLOTLIBRC", "MPLBACKEND", "PYTHONSTARTUP", "PYTHONWARNINGS")
FOREIGN += ("PYTHONIOENCODING", "TF_XLA_FLAGS")
#: glibc returns large arrays to the system after each use; keeping them saves a sixth of a step.
KEEP_MEMORY = 2_000_000_000


def variables(given: Mapping[str, str]) -> dict[str, str]:
    """The given environment, with what changes numbers set."""
    exact = given.get("COVID_EXACT", "1") != "0"
    threads = given.get("COVID_THREADS", "1")
    kept = {
        name: value
        for name, value in given.items()
        if name == "KERAS_HOME" or not name.startswith(FOREIGN)
    }
    fixed = {
        "TF_ENABLE_ONEDNN_OPTS": "0" if exact else "1",
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        # An empty profile of IPython, and Matplotlib's own defaults.
        "IPYTHONDIR": str(Path(sys.prefix, "share", "covid-utils", "ipython")),
        "MATPLOTLIBRC": str(Path(find_spec("matplotlib").origin).with_name("mpl-data")),
        "PYTHONUTF8": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MALLOC_TRIM_THRESHOLD_": str(KEEP_MEMORY),
        "MALLOC_MMAP_THRESHOLD_": str(KEEP_MEMORY),
    }
    if exact and _has_avx512():
        # NumPy, its BLAS and oneDNN round as they do on processors without AVX-512.
        fixed["ONEDNN_MAX_CPU_ISA"] = "AVX2"
        fixed["OPENBLAS_CORETYPE"] = "Haswell"
        fixed["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"
    return kept | fixed


def _has_avx512() -> bool:
    listing = Path("/proc/cpuinfo")  # Linux alone has it
    return listing.is_file() and "avx512f" in listing.read_text(encoding="utf8").split()


def main() -> None:
    """Replace this process by the command on its command line, in the fixed environment."""
    command = sys.argv[1:] or [sys.executable]
    os.execvpe(command[0], command, variables(os.environ))


if __name__ == "__main__":
    main()
