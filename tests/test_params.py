"""Parameters: declared once, mistakes stop before the run, every profile fits its notebooks."""

import ast
import json
import re

import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from covid_utils import params, paths
from covid_utils.errors import ParameterError
from covid_utils.graph import jobs
from covid_utils.registry import NOTEBOOKS, PROFILES, STREAMS

STREAM = "04_task3_stream"
#: Runs that have settings of their own, and their notebooks.
OWN = {name: job.notebook for name, job in jobs("imagenet").items() if "imagenet" in name}


def stated(path):
    return yaml.safe_load(path.read_text(encoding="utf8"))


def parameters_cell(notebook):
    """Source of a notebook's cell tagged ``parameters``."""
    text = (paths.NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf8")
    cells = json.loads(text)["cells"]
    (cell,) = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
    return "".join(cell["source"])


def defaults(notebook):
    body = ast.parse(parameters_cell(notebook)).body
    return {node.targets[0].id: ast.literal_eval(node.value) for node in body}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stesp": 5}, "here: unknown parameter 'stesp'; did you mean 'steps'"),
        ({"zzzzzz": 5}, "known are profile, data_dir, stream"),
        ({"learning_rate": "1e-3"}, "wrong 'learning_rate': '1e-3' is not of .*: write 0.001"),
        ({"learning_rate": 0}, "wrong 'learning_rate': 0 is less than or equal to the minimum"),
        ({"power": float("inf")}, "wrong 'power': inf is not of type 'number'"),
        ({"steps": True}, "wrong 'steps': True is not of type 'integer'"),
        ({"weights": None}, "wrong 'weights': None is not of type 'string'"),
        ({"model": "resnet"}, "wrong 'model': 'resnet' is not one of"),
        ({"class_weights": [1.0]}, "is too short"),
        ({"atrous_rates": [2, 0]}, "0 is less than the minimum of 1"),
    ],
)
def test_what_a_declaration_refuses(values, message):
    with pytest.raises(ParameterError, match=message):
        params.check(values, STREAM, "here")


def test_what_a_declaration_allows():
    params.check({"width": 1, "steps": 7, "refit": False}, STREAM, "here")
    params.check({"feature_layer": "mixed2, mixed3"}, "02_task1_inception", "here")
    with pytest.raises(ParameterError, match="does not match"):
        params.check({"feature_layer": "mixed2 mixed3"}, "02_task1_inception", "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- profile\n- quick\n", "00_overview.yaml: must hold 'name: value' lines"),
        ("profile: quick\ndata_dir: [\n", "00_overview.yaml: not valid YAML at line"),
        ("profil: quick", "did you mean 'profile'"),
        ("profile: swift", "'swift' is not one of .'quick', 'ci'"),
        ("profile: quick", r"00_overview\.yaml: 'data_dir' is missing; state every parameter"),
    ],
)
def test_a_bad_file_is_named(tmp_path, monkeypatch, text, message):
    (tmp_path / "00_overview.yaml").write_text(text, encoding="utf8")
    monkeypatch.setattr(paths, "params", lambda _: tmp_path)
    with pytest.raises(ParameterError, match=message):
        params.load("quick", "00_overview")


def test_missing_profile_notebook_and_changes():
    with pytest.raises(ParameterError, match=r"profile 'swift' has no such file.*quick, ci"):
        params.load("swift", "00_overview")
    with pytest.raises(ParameterError, match=r"no such notebook; there are 00_overview"):
        params.declared("99_nothing")
    with pytest.raises(ParameterError, match="did you mean 'seed'"):
        params.load("quick", "01_data", sead=1)
    assert params.load("quick", "01_data", seed=1)["seed"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data_dir=/x #2/it's {y}", "/x #2/it's {y}"),
        ("data_dir=2020-05-01", "2020-05-01"),
        ("data_dir=", ""),
        ("seed=1_000", 1000),
        ("test_percent=nan", "nan"),
        ("limit=true", True),
        ("seed=010", "010"),  # neither 8 nor 10: the check refuses it
        ("seed=1:30", "1:30"),
        ("seed=2020-13-45", "2020-13-45"),
        ("test_percent=1e-3", 0.001),
    ],
)
def test_a_setting_of_the_command_line_is_read_as_it_is_declared(text, value):
    assert params.from_text("01_data", text) == (text.partition("=")[0], value)


def test_a_running_notebook_is_checked_by_the_same_declaration():
    cell = defaults("01_data")
    shell = {"In": [""], "Out": {}, "_i": "x", "exit": print, "np": re}
    assert params.of_cell("01_data", cell | shell) == cell
    injected = {"In": ["", parameters_cell("01_data"), "# Parameters\nsede = 3\n"], "sede": 3}
    with pytest.raises(ParameterError, match=r"01_data: unknown parameter 'sede'.*'seed'"):
        params.of_cell("01_data", cell | shell | injected)
    # A second run in the same kernel finds what the first has computed.
    computed = {"In": ["", parameters_cell("01_data"), "title = f'{seed}'\nfor n in (1, 2): pass"]}
    assert params.of_cell("01_data", cell | computed | {"title": "2020", "n": 2}) == cell
    with pytest.raises(ParameterError, match="wrong 'split': 'none' is not one of"):
        params.of_cell("01_data", cell | {"split": "none"})


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_parameter_file_and_cell_fits_its_notebook_with_the_declared_comments(notebook):
    names = [notebook, *(own for own, of in OWN.items() if of == notebook)]
    texts = [parameters_cell(notebook)]
    for profile in PROFILES:
        files = [paths.params(profile) / f"{name}.yaml" for name in names]
        texts += [file.read_text("utf8") for file in files]
        given = stated(files[0])
        assert params.load(profile, notebook) == given
        assert list(given) == list(defaults(notebook)) == list(params.declared(notebook))
        assert given["profile"] == profile
    for line in "\n".join(texts).splitlines():
        name = re.match(r"\w+(?=:| =)", line)
        assert name is None or line.endswith(f" # {params.comment(notebook, name[0])}"), line
    # Notebooks show the profile that their outputs come from.
    profile = "sample" if notebook in ("00_overview", "05_tables", "06_as_published") else "quick"
    assert params.load(profile, notebook) == defaults(notebook)


def test_no_profile_or_file_besides():
    assert params.declared(STREAM)["profile"]["enum"] == list(PROFILES)
    assert params.declared(STREAM)["stream"]["enum"] == list(STREAMS)
    folders = paths.params("quick").parent
    assert {folder.name for folder in folders.iterdir()} == {*PROFILES, "declarations.yaml"}
    for profile in PROFILES:
        names = sorted(file.stem for file in (folders / profile).iterdir())
        assert names == sorted([*NOTEBOOKS, *OWN])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("job", OWN)
def test_a_runs_own_file_replaces_values_of_its_notebooks_file(profile, job):
    own = stated(paths.params(profile) / f"{job}.yaml")
    usual = params.load(profile, OWN[job])
    assert any(usual[name] != value for name, value in own.items())
    assert params.load(profile, OWN[job], job) == usual | own
    assert params.load(profile, OWN[job], job, width=3.0) == usual | own | {"width": 3.0}
    assert params.load(profile, OWN[job], "another_run") == usual
    assert own["width"] == 1.0  # all that ImageNet's weights fit


def test_a_notebook_shows_the_sentence_of_an_error_alone():
    shell = InteractiveShell.instance()
    with capture_output() as shown:
        shell.run_cell("from covid_utils import params\nparams.declared('09_none')")
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.stdout + shown.stderr).strip()
    assert text.startswith("ParameterError: 09_none: no such notebook; there are 00_overview, ")
    assert len(text.splitlines()) == 1
