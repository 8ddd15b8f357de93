"""Parameters: mistakes stop before the run, and every profile fits its notebooks."""

import re

import nbformat
import pytest
import yaml

from covid_utils import params, paths
from covid_utils.data.images import Preprocessing
from covid_utils.errors import ParameterError
from covid_utils.registry import PROFILES
from covid_utils.training.head import HeadSettings
from covid_utils.training.segmentation import StreamSettings

NOTEBOOKS = sorted(file.stem for file in paths.notebooks().glob("*.ipynb"))
TAKEN = {"steps": 100, "rate": 0.01, "flag": True, "weights": "none"}


@pytest.fixture
def file(tmp_path):
    """Write a parameter file for the first notebook and read it back."""

    def written(text, notebook="00_overview"):
        path = tmp_path / f"{notebook}.yaml"
        path.write_text(text, encoding="utf8")
        return params.read(path, notebook)

    return written


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stesp": 5}, "a.yaml: unknown parameter 'stesp'; did you mean 'steps'"),
        ({"zzzzzz": 5}, "known are steps, rate, flag, weights"),
        ({"rate": "1e-3"}, "'rate' is '1e-3', but must be of type float.*write 0.001"),
        ({"rate": True}, "'rate' is True, but must be of type float"),
        ({"steps": True}, "'steps' is True, but must be of type int"),
        ({"steps": 5.0}, "'steps' is 5.0, but must be of type int"),
        ({"flag": 1}, "'flag' is 1, but must be of type bool"),
        ({"weights": None}, "'weights' is None, but must be of type str"),
    ],
)
def test_what_check_refuses(values, message):
    with pytest.raises(ParameterError, match=message):
        params.check(values, TAKEN, "a.yaml")


@pytest.mark.parametrize("values", [{"rate": 1}, {"rate": 2.5}, {"steps": 7, "flag": False}, {}])
def test_what_check_takes(values):
    assert params.check(values, TAKEN, "a.yaml") is None


def test_exponent_without_a_point_is_caught_on_its_way_through_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("learning_rate: 1e-3\n")
    with pytest.raises(ParameterError, match=r"x.yaml: 'learning_rate' is '1e-3'"):
        params.read(path, "04_task3_stream")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- profile\n- quick\n", "00_overview.yaml: must hold 'name: value' lines"),
        ("quick", "must hold 'name: value' lines"),
        ("profile: quick\ndata_dir: [\n", "00_overview.yaml: not valid YAML at line"),
        ("profile: quick\n\tdata_dir: ''\n", "not valid YAML at line 2"),
        ("profil: quick", "did you mean 'profile'"),
    ],
)
def test_a_bad_file_is_named(file, text, message):
    with pytest.raises(ParameterError, match=message):
        file(text)


def test_a_name_that_yaml_reads_as_no_text_is_refused_in_words(file):
    with pytest.raises(ParameterError, match=r"00_overview\.yaml"):
        file("yes: quick")


def test_a_file_fills_up_with_the_notebooks_defaults(file):
    assert file("profile: mine") == {"profile": "mine", "data_dir": ""}
    assert file("") == params.defaults("00_overview")


def test_missing_profile_notebook_and_changes():
    with pytest.raises(ParameterError, match=r"profile 'swift' has no such file.*quick, sample"):
        params.load("swift", "00_overview")
    with pytest.raises(ParameterError, match=r"no such notebook; there are 00_overview"):
        params.defaults("99_nothing")
    with pytest.raises(ParameterError, match="did you mean 'seed'"):
        params.load("quick", "01_data", sead=1)
    assert params.load("quick", "01_data", seed=1)["seed"] == 1


@pytest.mark.parametrize("number", [0, 2])
def test_not_exactly_one_parameters_cell(tmp_path, monkeypatch, number):
    tagged = {"tags": ["parameters"]}
    cells = [nbformat.v4.new_code_cell(f"a = {i}", metadata=tagged) for i in range(number)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    monkeypatch.setattr(paths, "notebooks", lambda: tmp_path)
    with pytest.raises(ParameterError, match=f"x.ipynb: {number} cells tagged 'parameters'"):
        params.defaults("x")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_parameter_file_fits_its_notebook(profile, notebook):
    path = paths.params(profile) / f"{notebook}.yaml"
    given = yaml.safe_load(path.read_text(encoding="utf8"))
    assert params.load(profile, notebook) == given
    assert list(given) == list(params.defaults(notebook))
    assert given["profile"] == profile


#: Runs that have settings of their own, and their notebooks.
JOBS = {"stream_all_deeplab_imagenet": "04_task3_stream"}


def test_no_profile_or_file_besides():
    folders = paths.params("quick").parent
    assert {folder.name for folder in folders.iterdir()} == set(PROFILES)
    for profile in PROFILES:
        names = sorted(file.stem for file in (folders / profile).iterdir())
        assert names == sorted([*NOTEBOOKS, *JOBS])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("job", JOBS)
def test_what_a_run_has_for_itself_replaces_what_its_notebook_has(profile, job):
    own = yaml.safe_load((paths.params(profile) / f"{job}.yaml").read_text(encoding="utf8"))
    usual = params.load(profile, JOBS[job])
    assert any(usual[name] != value for name, value in own.items())
    assert params.load(profile, JOBS[job], job) == usual | own
    assert params.load(profile, JOBS[job], job, width=3.0) == usual | own | {"width": 3.0}
    assert params.load(profile, JOBS[job], "another_run") == usual
    settings = StreamSettings(**{**vars(StreamSettings()), "init": own["init"]})
    assert settings.run_name == job
    assert own["width"] == 1.0  # all that ImageNet's weights fit


def test_a_run_cannot_have_what_its_notebook_has_not(tmp_path, monkeypatch):
    (tmp_path / "04_task3_stream.yaml").write_text("steps: 5\n")
    (tmp_path / "one.yaml").write_text("stesp: 5\n")
    monkeypatch.setattr(paths, "params", lambda _: tmp_path)
    with pytest.raises(ParameterError, match=r"one.yaml: unknown parameter 'stesp'"):
        params.load("quick", "04_task3_stream", "one")


def test_comments_are_comments_for_every_yaml_parser():
    # YAML wants a blank before '#'; PyYAML forgives its absence, other parsers do not.
    for file in sorted(paths.params("quick").parent.glob("*/*.yaml")):
        for line in file.read_text(encoding="utf8").splitlines():
            before = re.sub(r'"[^"]*"', "text", line).split("#")[0]
            assert "#" not in line or before == "" or before.endswith(" "), f"{file}: {line}"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebooks_show_the_profile_that_their_outputs_come_from(notebook):
    reads_only = notebook in ("00_overview", "05_tables")
    profile = "sample" if reads_only else "quick"
    assert params.load(profile, notebook) == params.defaults(notebook)


@pytest.mark.parametrize(
    ("notebook", "published"),
    [
        (
            "01_data",
            {"image_size": 512, "validation_percent": 10.0, "test_percent": 10.0, "limit": 0},
        ),
        (
            "02_task1_inception",
            {
                "image_size": 512,
                "weights": "imagenet",
                "feature_layer": "mixed10",
                "steps": 2800,
                "batch_size": 100,
                "learning_rate": 0.01,
                "evaluate_every": 10,
                "last_step": 10_000,
                "standardise": False,
                "multimodal_runs": 5,
                "train_images_4": 9618,
                "test_images_4": 955,
                "train_images_2": 5219,
                "test_images_2": 536,
            },
        ),
        ("03_task2_multilabel", {"image_size": 512, "epochs": 50}),
        (
            "04_task3_stream",
            {
                "steps": 50_000,
                "batch_size": 4,
                "optimizer": "sgd",
                "learning_rate": 1e-4,
                "weight_decay": 4e-5,
                "loss": "cross_entropy",
                "class_weights": [1.0, 2.0, 3.0, 4.0],
                "momentum": 0.9,
                "power": 0.9,
                "augmentation": "published",
                "image_size": 512,  # and one more that the network sees: the crop of 513
                "width": 1.0,
                "middle_blocks": 16,
                "output_stride": 16,
                "atrous_rates": [6, 12, 18],
                "decoder_stride": 4,
                "attenuation_margin": 0.0,
                "norm_momentum": 0.9997,
                "batch_norm": "trained",
                "base": 64,
                "flip_test": False,
                "test_scales": [1.0],
                "refit": False,
                "average_last": 0,
                "members": 1,
                "train_images": 5000,
                "test_images": 403,
            },
        ),
    ],
)
def test_profile_paper_holds_the_published_settings(notebook, published):
    loaded = params.load("paper", notebook)
    assert {name: loaded[name] for name in published} == published


def test_settings_default_to_the_published_values():
    assert Preprocessing().size == 512
    assert HeadSettings(seed=0) == HeadSettings(2800, 100, 0.01, 10, False, 0)
    stream = StreamSettings()
    assert (stream.steps, stream.batch_size, stream.optimizer) == (50_000, 4, "sgd")
    assert (stream.learning_rate, stream.momentum, stream.power) == (1e-4, 0.9, 0.9)
    assert stream.weight_decay == 4e-5
