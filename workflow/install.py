"""Make this checkout known to the virtual environment: its packages, its command, its kernel.

The kernel starts through `environment.py`, so that JupyterLab, papermill and nbval compute in the
same environment as `make`. It is called ``python3``, the name that the notebooks ask for.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from ipykernel.kernelspec import install
from jupyter_client.kernelspec import KernelSpec

NAME = "Python 3 (ipykernel)"


def main() -> None:
    """Write the checkout's folder, command, kernel and IPython's settings below ``sys.prefix``."""
    # What an editable install does, but that fails where a folder's name holds braces.
    packages = Path(sysconfig.get_path("purelib"), "covid_utils.pth")
    packages.write_text(f"{Path(__file__).resolve().parents[1]}\n", encoding="utf8")
    folder = Path(install(kernel_name="python3", display_name=NAME, prefix=sys.prefix))
    spec = KernelSpec.from_resource_dir(str(folder))
    starter = Path(__file__).resolve().with_name("environment.py")
    spec.argv = [sys.executable, str(starter), *spec.argv]
    (folder / "kernel.json").write_text(spec.to_json() + "\n", encoding="utf8")
    # The kernel's log of its own doings would stand in red below the cells.
    settings = Path(sys.prefix, "etc", "ipython", "ipython_kernel_config.py")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("c.IPKernelApp.log_level = 40\n", encoding="utf8")
    # The command of one's own scans, which an installed package would bring along.
    command = Path(sys.prefix, "bin", "covid-read")
    command.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m covid_read "$@"\n')
    command.chmod(0o755)
    # Where `environment` sends IPython: without start-up files of the user.
    Path(sys.prefix, "share", "covid-utils", "ipython").mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main()
