"""The project as a whole: locks, floors, notebooks, links."""

import ast
import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from covid_read import shipped
from covid_utils import paths, registry

PACKAGES = ("chest_phantom", "covid_utils", "covid_read")
LIBRARY = sorted(file for one in PACKAGES for file in (paths.PROJECT / one).rglob("*.py"))
NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
LOCKS = ("requirements.lock", "requirements-gpu.lock")
FLOORS = ("data", "models", "training", "evaluation", "report")
GROUND = ("registry", "graph", "params", "paths", "runs", "errors", "writing", "progress")
#: What begins a path that exists on one machine only.
MACHINE = re.compile(r"(?<![\w.])(/work/|/root/|/home/\w|/tmp/\w|/Users/\w|[A-Z]:\\\\)")


def name(path):
    return path.relative_to(paths.PROJECT).as_posix()


def module(path):
    """Dotted name of a file of the library."""
    return name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# Packages


def locked(lock):
    """Entries of a lock file, each with its hashes on one line."""
    text = (paths.PROJECT / lock).read_text(encoding="utf8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def package(requirement):
    """Normalised name of the package that a requirement or an entry asks for."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_and_hashed_and_no_index_is_named(lock):
    entries = locked(lock)
    assert len(entries) > 100
    for line in entries:
        assert re.match(r"^[A-Za-z0-9._-]+(\[[\w,-]+\])?==[\w.!+]+ ", line), line[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", line), line[:80]
    text = (paths.PROJECT / lock).read_text(encoding="utf8")
    signs = "https?:|--index-url|--extra-index-url|-i |--find-links|file:"
    assert not re.search(rf"(^|[\s@])({signs})", text, re.MULTILINE)


def test_the_lock_holds_what_the_package_asks_for():
    project = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["run"], *extras["site"]]
    wanted += extras["dev"]
    held = {package(line): line for line in locked("requirements.lock")}
    for requirement in wanted:
        assert package(requirement) in held, requirement
        pin = re.search(r"==[\w.]+", requirement.split(";")[0])
        assert pin is None or f"{pin[0]} " in held[package(requirement)], requirement


def test_conda_environment_is_the_lock():
    text = (paths.PROJECT / "environment.yml").read_text(encoding="utf8")
    *plain, pip = yaml.safe_load(text)["dependencies"]
    assert pip == {"pip": ["-r requirements.lock"]}
    project = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]
    assert f"python {project['requires-python']}" in plain
    # Everything else comes from the lock; make is no Python package.
    assert {package(entry) for entry in plain} == {"python", "pip", "make"}


# The library


def imports(path):
    """Modules of the library that a file imports, anywhere in it, with line numbers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            known = {module(file) for file in LIBRARY}
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in known else node.module), node.lineno


def floor(dotted):
    """Height of a module: 0 for the ground, above it the floors; the doors are on top.

    The phantom lies below all of them, and reading scans above.
    """
    parts = dotted.split(".")
    if parts[0] != "covid_utils":
        return {"chest_phantom": -1, "covid_read": len(FLOORS) + 2}[parts[0]]
    if len(parts) == 1 or parts[1] in GROUND:
        return 0
    return FLOORS.index(parts[1]) + 1 if parts[1] in FLOORS else len(FLOORS) + 1


@pytest.mark.parametrize("path", LIBRARY, ids=module)
def test_a_module_imports_from_its_own_floor_or_below(path):
    for imported, line in imports(path):
        if imported.split(".")[0] in PACKAGES:
            assert floor(imported) <= floor(module(path)), f"{name(path)}:{line} {imported}"
            is_training = imported.startswith("covid_utils.training")
            assert not is_training or path.parent.name not in ("evaluation", "report")


@pytest.mark.parametrize("path", LIBRARY, ids=module)
def test_only_models_and_training_use_tensorflow(path):
    if path.parent.name in ("data", "readers", "evaluation", "report"):
        for imported, line in imports(path):
            assert imported.split(".")[0] not in ("tensorflow", "keras"), f"{name(path)}:{line}"


def test_importing_every_module_loads_no_tensorflow_and_writes_nothing(tmp_path):
    modules = [module(path) for path in LIBRARY if path.name != "__main__.py"]
    code = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        "print(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=paths.PROJECT,
        env={"COVID_HOME": str(tmp_path), "PATH": "", "MPLCONFIGDIR": str(tmp_path / "mpl")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert [path.name for path in tmp_path.iterdir() if path.name != "mpl"] == []


def test_no_file_holds_a_path_of_a_machine():
    folders = ("covid_utils", "covid_read", "workflow", "params", "paper", "profiles", "docs")
    files = [file for folder in folders for file in (paths.PROJECT / folder).rglob("*")]
    files += [file for file in paths.PROJECT.iterdir() if file.suffix in (".toml", ".md", ".yml")]
    files += [paths.PROJECT / "Makefile", paths.PROJECT / "Snakefile", *NOTEBOOKS]
    kinds = (".py", ".md", ".yaml", ".yml", ".toml", ".ipynb", ".html", "")
    for file in files:
        if file.suffix in kinds and file.is_file():
            found = MACHINE.search(file.read_text(encoding="utf8"))
            assert found is None, f"{name(file)}: {found}"


# Notebooks


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf8"))


def source(cell):
    return "".join(cell["source"])


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_one_parameters_cell_with_plain_assignments_and_short_cells_of_code(notebook):
    tagged = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert tagged[0] is code_cells(notebook)[0]
    for node in ast.parse(source(tagged[0])).body:
        assert isinstance(node, ast.Assign)
        assert isinstance(node.targets[0], ast.Name)
        ast.literal_eval(node.value)
    for line in source(tagged[0]).splitlines():
        assert line.count("=") == 1, f"papermill's inspection loses: {line}"
    for cell in code_cells(notebook):  # a list of parameters is no code to follow
        assert len(source(cell).splitlines()) <= (38 if cell is tagged[0] else 15), source(cell)


def test_every_code_cell_was_run_none_failed_and_metadata_is_clean(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)
    counts = [cell["execution_count"] for cell in code_cells(notebook) if source(cell).strip()]
    assert counts == list(range(1, len(counts) + 1))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}, cell["metadata"]


def test_the_skeleton_of_a_notebook(notebook):
    first = source(notebook["cells"][0])
    assert re.match(r"# \d · \w", first), first.splitlines()[0]
    assert "**The question.**" in first
    assert re.search("(?i)takes|seconds", first)
    text = "\n".join(source(c) for c in notebook["cells"] if c["cell_type"] == "markdown")
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert len([heading for heading in headings if heading.startswith("# ")]) == 1
    assert headings[-2:] == ["## Differs from the paper", "## Next"]


# The repository


def tracked():
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=paths.PROJECT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git here, or no repository")
    return [paths.PROJECT / file for file in done.stdout.split("\0") if file]


def test_nothing_large_and_no_data_is_tracked():
    kinds = (".h5", ".keras", ".npz", ".npy", ".dcm", ".gz", ".pb", ".onnx", ".ckpt")
    for file in tracked():
        if file.is_file():
            is_exempt = file.suffix == ".ipynb" or name(file).startswith("results/")
            is_pack = name(file) == "models/sample/shipped.npz"
            most = shipped.MOST if is_pack else 1_000_000
            assert file.stat().st_size <= most or is_exempt, name(file)
            is_map = re.fullmatch(r"results/sample/condition_S\d/maps.npz", name(file))
            assert is_map or is_pack or not file.name.endswith(kinds), name(file)


def anchors(text):
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PAGES = [paths.PROJECT / "README.md", *sorted((paths.PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page):
    text = page.read_text(encoding="utf8")
    links = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)", text)
    links += re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for link in links:
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists() or re.match(r"[a-z]+:", link), f"{page.name}: {link}"
        if anchor and file.suffix == ".md" and file.exists():
            assert anchor in anchors(file.read_text(encoding="utf8")), f"{page.name}: {link}"


def test_notebooks_and_pages_that_are_named_exist():
    known = {path.stem for path in NOTEBOOKS}
    for path in NOTEBOOKS:
        assert set(re.findall(r"`(\d\d_\w+)`", path.read_text("utf8"))) <= known, path.name
    for path in LIBRARY:
        for link in re.findall(r"see (docs/[\w-]+\.md)", path.read_text(encoding="utf8")):
            assert (paths.PROJECT / link).is_file(), f"{name(path)}: {link}"


def test_a_notebook_that_uses_the_reading_package_runs_again_when_that_changes():
    for path in NOTEBOOKS:
        uses = re.search(r"(from|import) covid_read", path.read_text(encoding="utf8"))
        assert bool(uses) == ("covid_read" in registry.NOTEBOOKS[path.stem]), path.name


def test_a_mistyped_target_is_answered_with_the_nearest():
    done = subprocess.run(
        ["make", "lba"], cwd=paths.PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "make lba: no such target; the nearest is make lab" in done.stderr
