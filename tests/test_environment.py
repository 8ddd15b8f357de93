"""One environment for all that computes, whatever the user's own settings are."""

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import environment
import pytest


@pytest.mark.parametrize("exact", ["", "1", "0"])
def test_one_module_fixes_the_environment_of_what_computes(exact):
    hostile = {"KERAS_BACKEND": "jax", "MATPLOTLIBRC": "mine", "OMP_NUM_THREADS": "7", "HOME": "h"}
    chosen = {"COVID_EXACT": exact} if exact else {}
    fixed = environment.variables(hostile | chosen | {"COVID_THREADS": "2"})
    assert fixed["KERAS_BACKEND"] == "tensorflow"
    assert Path(fixed["MATPLOTLIBRC"], "matplotlibrc").is_file()
    assert fixed["HOME"] == "h"
    assert fixed["OMP_NUM_THREADS"] == fixed["TF_NUM_INTRAOP_THREADS"] == "2"
    assert fixed["TF_ENABLE_ONEDNN_OPTS"] == ("1" if exact == "0" else "0")
    processor = Path("/proc/cpuinfo")  # Linux alone has it
    is_wide = processor.is_file() and "avx512f" in processor.read_text(encoding="utf8").split()
    assert ("NPY_DISABLE_CPU_FEATURES" in fixed) == (is_wide and exact != "0")


@pytest.fixture
def hostile_home(tmp_path):
    """Environment of a user whose own settings of Keras, Matplotlib and IPython are unusual."""
    startup = tmp_path / ".ipython" / "profile_default" / "startup"
    for folder in (startup, tmp_path / ".keras", tmp_path / ".config" / "matplotlib"):
        folder.mkdir(parents=True)
    settings = {"backend": "torch", "floatx": "float64", "image_data_format": "channels_first"}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings | {"epsilon": 1e-3}))
    (tmp_path / ".config" / "matplotlib" / "matplotlibrc").write_text("font.size: 40\nno such: 1\n")
    (startup / "own.py").write_text("import pandas as pd\npd.set_option('display.precision', 1)\n")
    return os.environ | {"HOME": str(tmp_path), "KERAS_BACKEND": "jax", "LC_ALL": "tr_TR.UTF-8"}


def test_settings_of_the_user_change_nothing_in_a_kernel(hostile_home):
    """As the installed kernel starts Python; Keras of another backend is refused there."""
    code = """if True:
        import keras, matplotlib, pandas, sys, types
        from covid_utils.training import reproducible
        reproducible.start(1)
        print(keras.backend.backend(), keras.config.floatx(), keras.config.image_data_format(),
              keras.config.epsilon(), matplotlib.rcParams["font.size"],
              pandas.get_option("display.precision"))
        backend = types.SimpleNamespace(backend=lambda: "jax")
        sys.modules["keras"] = types.SimpleNamespace(backend=backend)
        try:
            reproducible.start(1)
        except Exception as error:
            print(type(error).__name__, error)
    """
    spec = json.loads(Path(sys.prefix, "share/jupyter/kernels/python3/kernel.json").read_text())
    python, starter, *_ = spec["argv"]
    is_current = Path(starter).is_file() and filecmp.cmp(starter, environment.__file__, False)
    assert is_current, "run: python workflow/install.py"
    command = [python, starter, sys.executable, "-m", "IPython", "-c", code]
    done = subprocess.run(command, env=hostile_home, capture_output=True, text=True, check=False)
    first, refusal = done.stdout.splitlines()
    assert first.split() == ["tensorflow", "float32", "channels_last", "1e-07", "10.0", "6"]
    assert refusal.startswith("ParameterError Keras computes with 'jax' in this process")
    assert "matplotlibrc" not in done.stderr
