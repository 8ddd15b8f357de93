"""The collection: nothing is lost in silence, and what was prepared is what is opened."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from builders import ct_slices, manifest, prepare, recognition_sets
from pandas.testing import assert_frame_equal
from PIL import Image
from test_similarity import picture, turned

from covid_utils import paths, runs
from covid_utils.data import collection, splits
from covid_utils.errors import DataError

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def root(tmp_path):
    return recognition_sets(tmp_path / "scans")


def cut(paths_):
    for path in paths_:
        path.write_bytes(path.read_bytes()[:50])


def test_what_a_task_lacks_is_named_and_stops_it_alone(root):
    cut(root.glob("chest_xray/train/NORMAL/*"))
    made = prepare(ct_slices(root))
    with pytest.raises(DataError, match=r"labelled normal can be read \(6 files are unreadable"):
        collection.require_classes(made)
    assert len(made.training_rows(("medseg",), "a network")) == 6
    with pytest.raises(DataError, match="a network needs slices of luna16 to train on; add that"):
        made.training_rows(("luna16",), "a network")


def test_opened_is_what_was_prepared_without_unreadable_files_which_are_listed(root, tmp_path):
    bad = sorted(root.glob("chest_xray/train/NORMAL/*"))[:2]
    cut(bad)
    made = prepare(root, seed=5)
    splits.assert_disjoint(made.manifest)
    assert (made.manifest["label"] == "normal").sum() == 4
    skipped = runs.read_table("quick", "data/skipped")
    listed = skipped[skipped["problem"] == "unreadable"]
    assert sorted(listed["path"]) == [path.relative_to(root).as_posix() for path in bad]
    assert listed["remedy"].str.contains("download this file again or delete it").all()
    opened = collection.open_or_prepare("quick", str(root))
    assert_frame_equal(opened.manifest, made.manifest)
    assert_frame_equal(opened.problems, made.problems, check_dtype=False)
    assert opened.root == made.root
    table = collection.describe(opened)
    assert table["images"].sum() == len(opened.manifest)
    assert (table[["train", "validation", "test"]].sum(axis=1) == table["images"]).all()
    # What lacks a file, as in a clone that does not say where it is from, is read anew.
    for name in ("source.json", "manifest.csv", "skipped.csv"):
        prepare(root, seed=5)
        (paths.results("quick") / "data" / name).unlink()
        assert not collection.open_or_prepare("quick", str(root)).manifest.equals(made.manifest)
    root.rename(tmp_path / "moved")
    next((tmp_path / "moved").glob("chest_xray/train/PNEUMONIA/*")).unlink()
    scans = collection.open_or_prepare("quick", str(tmp_path / "moved"))
    assert len(scans.manifest) == len(made.manifest) - 1


def test_who_opens_it_at_the_same_time_waits_for_the_one_who_prepares_it(root, monkeypatch):
    asked, usual = [], collection.prepare
    monkeypatch.setattr(collection, "prepare", lambda values: asked.append(1) or usual(values))
    with ThreadPoolExecutor(2) as pool:
        each = list(pool.map(lambda _: collection.open_or_prepare("quick", str(root)), range(2)))
    assert_frame_equal(each[0].manifest, each[1].manifest)
    assert len(asked) == 1


def test_limit_keeps_so_many_of_each_label(root):
    made = prepare(root, limit=4)
    counts = made.manifest.groupby(["dataset", "label"]).size()
    assert counts.tolist() == [4] * 4
    every = prepare(root).manifest
    again, other = (collection.reduce(every, 4, seed) for seed in (2020, 2021))
    assert again["image_id"].tolist() == made.manifest["image_id"].tolist()
    assert other["image_id"].tolist() != again["image_id"].tolist()
    assert collection.reduce(other, 100, 1).equals(other)


def test_recognition_rows_are_frontal_and_numbered(root):
    made = prepare(root)
    four = collection.recognition_rows(made, classes=4)
    assert "L" in set(made.manifest["view"])
    assert "L" not in set(four["view"])
    names = np.array(collection.RECOGNITION_CLASSES)
    assert names[four["target"]].tolist() == four["label"].tolist()
    assert four.groupby("label").size().to_dict() == dict.fromkeys(sorted(names), 6)
    two = collection.recognition_rows(made, classes=2)
    assert two.groupby("label")["target"].first().to_dict() == {"covid": 0, "normal": 1}
    assert four.index.tolist() == list(range(24))


def save_slices(root, rows, copied):
    """Random slices of a manifest, the last a turned and mirrored copy of another."""
    images = [picture(seed) for seed in range(len(rows) - 1)]
    images.append(turned(images[copied], 90, flip=True))
    for path, image in zip(rows["path"], images, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / path)


@pytest.mark.parametrize("basis", ["figure", "none"])
def test_near_copies_without_patients_share_a_group(tmp_path, basis):
    about = {"modality": "CT", "patient_basis": basis}
    rows = manifest({f"f{i}": 1 for i in range(6)}, "covid-ct", "covid", **about)
    save_slices(tmp_path, rows, copied=1)
    grouped = collection.stand_ins(rows, tmp_path)["patient_id"]
    assert grouped[5] == grouped[1] == "covid-ct/f1"
    assert grouped[:5].tolist() == rows["patient_id"][:5].tolist()
    assert rows["patient_id"].is_unique  # the manifest handed in is left alone


def test_a_class_that_cannot_be_tested_is_a_problem_of_the_split(root):
    assert prepare(root).problems.empty
    for path in sorted(root.glob("chest_xray/train/PNEUMONIA/*virus*"))[1:]:
        path.unlink()
    (problem,) = prepare(root).problems.itertuples()
    assert (problem.dataset, problem.path) == ("X-ray", "viral")
    assert problem.problem == "no validation or test patient"
    assert problem.remedy.startswith("Patients or groups in all: 1. Bring more")


def test_data_root_messages(monkeypatch):
    monkeypatch.setattr(collection.chest_phantom, "write", lambda folder: folder)
    assert collection.data_root("quick", "") == paths.phantom()
    with pytest.raises(DataError, match="PROFILE=sample DATA=folder"):
        collection.data_root("sample", "")
    with pytest.raises(DataError, match="nowhere/scans: no such folder; name the folder"):
        collection.data_root("quick", "nowhere/scans")


def test_a_file_that_changes_behind_a_link_changes_the_fingerprint(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "scans" / "set").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "scans" / "b").symlink_to(tmp_path / "nowhere")  # broken, and no obstacle
    found = []
    for content in ("one", "more"):
        (tmp_path / "elsewhere" / "a").write_text(content)
        found.append(collection.fingerprint(tmp_path / "scans"))
    assert found[0] != found[1]
