"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest
from builders import SMALL_PHANTOM, copy_sample

import chest_phantom
from covid_utils import paths

#: Files that take longest; started last, one of them would run alone at the end.
LONGEST = ("test_site.py", "test_graph.py", "test_train_stream.py", "test_committed.py")


def pytest_collection_modifyitems(items):
    """Start the longest files first."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


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
def sample(tmp_path_factory):
    """A home with a copy of the committed results, and the tables selected anew from its scores."""
    from covid_utils.report import tables  # only here: most tests need no tables

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("COVID_HOME", str(home))
        copy_sample()
        return home, tables.write_all("sample")


@pytest.fixture(scope="module")
def built(sample):
    """Tables and verdicts of `sample`, which is home while the module's tests run."""
    home, tables = sample
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
