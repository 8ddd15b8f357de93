"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from builders import SMALL_PHANTOM

import chest_phantom
from covid_utils import paths


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real scans; the test is skipped where there is none."""
    folder = Path(os.environ.get("COVID_DATA") or paths.PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real scans: neither ../shared/data nor COVID_DATA is a folder")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder of its own for what a test writes."""
    monkeypatch.setenv("COVID_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def phantom(tmp_path_factory) -> Path:
    """A small phantom that no test changes."""
    return chest_phantom.write(tmp_path_factory.mktemp("phantom") / "set", SMALL_PHANTOM)


@pytest.fixture(scope="session")
def small_profile(tmp_path_factory):
    """A home with the runs of `small_runs` and what is built from them, and its tables."""
    import small_runs  # only here: most tests need no tables

    from covid_utils.report import tables

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("COVID_HOME", str(home))
        small_runs.write_all()
        return home, tables.write_all(small_runs.PROFILE)


@pytest.fixture(scope="module")
def built(small_profile):
    """Tables and verdicts of `small_profile`, which is home while the module's tests run."""
    home, tables = small_profile
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(home))
        yield tables


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Folder of a pack that outlines with random weights, and does no more."""
    from stream_cases import TOY

    from covid_read import shipped
    from covid_utils.training import networks, predict_stream

    look = {"crop": "field", "gray": "landmarks", "clahe_clip": 0.0}
    settings = TOY.replace(stream="all", image_size=32, **look)
    network = networks.build(settings)
    file = tmp_path_factory.mktemp("model") / "shipped.npz"
    shipped.save(file, predict_stream.Committee(network, [network.get_weights()]), settings)
    return file.parent


@pytest.fixture(scope="module")
def eager():
    """Functions run as they are: to trace them takes longer than a small network."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def small_networks(tmp_path):
    """Streams of few layers in a home of their own."""
    import stream_cases

    with stream_cases.small_networks(tmp_path / "home"):
        yield
