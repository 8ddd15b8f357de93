"""Steps towards slices of other hospitals: what trains, what is tested, what each step changes."""

from contextlib import contextmanager
from itertools import islice
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from builders import SMALL_PHANTOM
from stream_cases import NOWHERE, TOY, gray, same, small_networks, toy

import chest_phantom
import covid_read
from covid_read import other_hospitals, shipped
from covid_utils import paths
from covid_utils.data import cache, lung_field, readers
from covid_utils.data.benchmark_lungs import rough_field
from covid_utils.data.collection import Collection
from covid_utils.errors import ParameterError
from covid_utils.evaluation import outlines
from covid_utils.registry import (
    EXTERNAL,
    EXTERNAL_SETS,
    LABEL_CLASSES,
    LESION,
    LESION_SETS,
    LUNG_FIELD,
    STEPS,
)
from covid_utils.training import predict_stream, streams, train_stream
from covid_utils.training.predict_stream import Committee
from covid_utils.training.streams import StreamData, settings_of

USUAL = vars(TOY.replace(stream="all", image_size=32, steps=2, evaluate_every=1, crop="lungs"))
VALUES = {name: USUAL[name] for name in other_hospitals.CHOSEN}
VALUES |= {"members": 2, "phantom_share": 0.5, "phantom_patients": 30, "imagenet": ""}


def picture(folder, number, image, mask):
    """A slice in another window, as other hospitals' slices are stored."""
    shown = np.clip((image.astype(float) - 20) * 255 / 230, 0, 255).astype(np.uint8)
    outlined = rough_field(image).astype(np.uint8)
    for kind, array in (("ct", shown), ("infection", mask > 0), ("lungs", outlined)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / kind / f"{number}.png"), array.astype(np.uint8) * (kind == "ct" or 255)
        )


@pytest.fixture(scope="module")
def scans(phantom, tmp_path_factory):
    """Phantom slices of the benchmark, the last two of which are tested, and four foreign ones."""
    root = tmp_path_factory.mktemp("scans")
    (root / "medseg").symlink_to(phantom / "medseg")
    own = readers.read("medseg", root).rows
    folder = root / EXTERNAL_SETS[1]
    for number, row in enumerate(own.iloc[:4].itertuples()):
        picture(folder, number, readers.load_image(root, row), readers.load_mask(root, row))
    table = pd.DataFrame({"slice": range(4), "volume": ["v01", "v01", "v03", "v03"]})
    table.to_csv(folder / "slices.csv", index=False)
    rows = readers.read_all(root).rows
    subset = rows["dataset"].map({EXTERNAL_SETS[1]: EXTERNAL}).fillna("train")
    subset[rows.index[rows["dataset"].isin(LESION_SETS)][-3:]] = ["validation", "test", "test"]
    return Collection(rows.assign(subset=subset), root, pd.DataFrame())


@contextmanager
def toys(home, phantom):
    """Small networks, and another phantom than that of the scans; settings and rows that train."""
    train, seen = train_stream.train, []

    def watched(profile, settings, scans, data, **how):
        seen.append((settings, data.rows))
        committee, log = train(profile, settings, scans, data, **how)
        # As a shipped file holds them, so that its outlines can be compared to the last digit.
        exact = [
            [np.float32(np.float16(array)) if array.ndim > 1 else array for array in weights]
            for weights in committee.members
        ]
        return Committee(committee.network, exact), log

    with small_networks(home), pytest.MonkeyPatch.context() as patch:
        patch.setattr(other_hospitals.params, "load", lambda *_, **changes: USUAL | changes)
        patch.setattr(chest_phantom, "write", lambda *_: phantom)
        patch.setattr(train_stream, "train", watched)
        yield seen


def predicted(scans):
    return [
        (about, rows, masks, np.concatenate([*probabilities]))
        for about, rows, masks, probabilities in other_hospitals.tested("quick", scans, VALUES)
    ]


@pytest.fixture(scope="module")
def run(scans, phantom, tmp_path_factory):
    """Every step, what trained in each, and networks that are read once they are trained."""
    with toys(tmp_path_factory.mktemp("home"), phantom) as seen:
        steps, trainings = predicted(scans), seen[:]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keras.Model, "fit", None)
            usual = settings_of(USUAL)
            data = streams.load_data(scans, usual)
            network, _ = train_stream.train("quick", usual, scans, data, reuse=True)
            plain = predict_stream.probabilities(network, data.part("test")[0], usual)
            return SimpleNamespace(
                steps=steps,
                trainings=trainings,
                plain=np.concatenate([*plain]),
                fields=other_hospitals.lung_fields(scans),
                members={
                    step: other_hospitals.trained("quick", scans, VALUES, step)[0].members
                    for step in ("E5", "E6")
                },
                shipped=other_hospitals.trained("quick", scans, VALUES),
            )


def test_steps_test_on_nothing_that_trained_them_and_the_shipped_network_on_others_alone(run):
    pixels, shown = outlines.of_steps(
        [(about, rows, masks, [given]) for about, rows, masks, given in run.steps], run.fields
    )
    # Only the extent has a truth elsewhere.
    external, tests = (pixels[pixels["subset"] == name] for name in (EXTERNAL, "test"))
    lesions = external[external["class"] == "lesion"]
    for part, steps, count in ((lesions, [*STEPS], 4), (tests, [*STEPS][:-1], 2)):
        assert part.groupby("step")["image_id"].nunique().to_dict() == dict.fromkeys(steps, count)
    assert set(external["class"]) == {"lesion", LUNG_FIELD}
    assert set(tests["class"]) == {*LABEL_CLASSES.values(), "background", "lesion"}
    assert list(shown) == [next(iter(STEPS)), [*STEPS][-1]]
    names = lesions["image_id"].unique().tolist()
    assert all(each.rows["image_id"].tolist() == names for each in shown.values())
    field = external[external["class"] == LUNG_FIELD]
    assert set(field["step"]) == {"E1"}
    assert (2 * field["tp"] / (2 * field["tp"] + field["fp"] + field["fn"])).min() > 0.8
    trained = [rows[rows["subset"] == "train"] for _, rows in run.trainings]
    assert {name for rows in trained for name in rows["dataset"]} == set(LESION_SETS)
    tested = set(tests["image_id"])
    assert [bool(tested & set(rows["image_id"])) for rows in trained] == [False] * 4 + [True]


def test_phantom_slices_and_members_join_at_their_steps(run):
    trained = [rows[rows["subset"] == "train"] for _, rows in run.trainings]
    own = [rows["image_id"].str.startswith("medseg/").mean() for rows in trained]
    assert np.round(own, 1).tolist() == [1, 1, 0.5, 0.5, 0.5]
    assert [settings.members for settings, _ in run.trainings] == [1, 1, 1, 2, 2]
    assert len(run.members["E6"]) == 2
    assert all(same(run.members["E5"][0], run.members["E6"][0]))


def test_each_step_changes_what_it_says(run, scans):
    steps = {(about["step"], rows["subset"].iloc[0]): given for about, rows, _, given in run.steps}
    assert np.array_equal(steps["E0", "test"], run.plain)
    for first, second in ("E0", "E1"), ("E1", "E2"), ("E4", "E5"), ("E5", "E6"), ("E6", "E7"):
        assert not np.array_equal(steps[first, EXTERNAL], steps[second, EXTERNAL])
    prepared = settings_of(USUAL, crop="field", gray="landmarks").preprocessing
    fields = cache.fields(scans.select(subset=EXTERNAL), scans.root, prepared)
    room = np.stack([lung_field.grown(field) for field in fields[:]])
    assert 0.2 < room.mean() < 0.9
    cut, free = steps["E3", EXTERNAL], steps["E2", EXTERNAL]
    assert np.array_equal(cut[room], free[room])
    assert (cut[~room][:, 0] == 1).all()


def test_a_scan_of_ones_own_gets_the_probabilities_of_the_shipped_network(run, scans, tmp_path):
    shipped.save(tmp_path / "shipped.npz", *run.shipped)
    (expected,) = (given for about, _, _, given in run.steps if about["step"] == "E7")
    seen, probabilities = [], predict_stream.probabilities

    def recorded(*given):
        for batch in probabilities(*given):
            seen.append(batch)
            yield batch

    with small_networks(tmp_path / "home"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_stream, "probabilities", recorded)
        result = covid_read.read(
            scans.root / EXTERNAL_SETS[1] / "ct", tmp_path / "out", model=tmp_path
        )
    assert result.status == covid_read.ALL
    assert np.abs(np.concatenate(seen) - expected).max() < 1e-6


def test_what_a_crop_leaves_out_is_missed(scans, home, phantom, monkeypatch):
    cropped = Collection(scans.manifest.assign(lungs="0 0 20 1"), scans.root, pd.DataFrame())
    with toys(home, phantom), monkeypatch.context() as patch:
        patch.setattr(train_stream, "train", lambda *_, **__: (None, None))
        tested = other_hospitals.tested("quick", cropped, VALUES)
        about, rows, masks, _ = [*islice(tested, 2)][1]
    assert about["step"] == "E0"
    assert set(rows["subset"]) == {EXTERNAL}
    for row in rows.itertuples():
        missed = readers.load_mask(scans.root, row) > 0
        missed[:20, :20] = False
        assert row.ggo_beyond == round(missed.sum() * (32 / 20) ** 2) > 0
        assert row.lung_pixels == round(readers.load_lungs(scans.root, row).sum() * (32 / 20) ** 2)
    table = outlines.pixel_table(rows, masks, masks[:], LESION)
    assert table["fn"].tolist() == rows["ggo_beyond"].tolist()


def test_a_shipped_file_gives_the_same_outlines(small_networks, tmp_path, monkeypatch):
    settings, data = TOY.replace(members=2, gray="landmarks", steps=8), toy()
    network, _ = train_stream.train("quick", settings, NOWHERE, data)
    file = tmp_path / "shipped.npz"
    shipped.save(file, network, settings)
    again, own = shipped.load(file)
    assert vars(own) == vars(settings)
    assert own.preprocessing == settings.preprocessing
    images = np.concatenate([data.images, gray(40, 16)])
    before, after = (
        np.concatenate([*predict_stream.probabilities(each, images, settings)])
        for each in (network, again)
    )
    assert 0 < np.abs(before - after).max() < 0.01
    assert (before.argmax(-1) != after.argmax(-1)).mean() <= 0.001
    assert 0.01 < before.argmax(-1).mean() < 0.99
    stored = np.load(file)
    assert {stored[name].dtype.name for name in stored if stored[name].ndim > 1} == {"float16"}
    monkeypatch.setattr(shipped, "MOST", 1000)
    with pytest.raises(ParameterError, match=r"other\.npz: .* MB are more than .*set width or"):
        shipped.save(tmp_path / "other.npz", network, settings)
    assert not (tmp_path / "other.npz").exists()


# Phantom slices beside scans


SETTINGS = TOY.replace(stream="all", image_size=64, seed=SMALL_PHANTOM.seed)


def slices(count, gray=9):
    """Slices of one gray value with a lesion everywhere, all for training."""
    rows = toy().rows.iloc[:1].loc[[0] * count].reset_index(drop=True)
    names = [f"{other_hospitals.PHANTOM}{number}" for number in range(count)]
    rows = rows.assign(image_id=names, patient_id=names, subset="train")
    images = np.full((count, 16, 16), gray, np.uint8)
    return StreamData(rows, images, np.ones_like(images))


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_a_share_holds_whatever_the_numbers_of_slices(count, share):
    data, phantom = toy(), slices(count)
    both = other_hospitals.mixed(data, phantom, share)
    trains = both.rows["subset"] == "train"
    is_phantom = both.rows["image_id"].str.startswith(other_hospitals.PHANTOM)
    assert is_phantom[trains].mean() == pytest.approx(share, abs=0.05)
    assert not is_phantom[~trains].any()
    assert both.rows.loc[is_phantom, "image_id"].nunique() == count
    assert both.rows.loc[trains & ~is_phantom, "image_id"].nunique() == 6
    # Each row keeps its picture and its labels.
    at = {name: number for number, name in enumerate(data.rows["image_id"])}
    for number, name in enumerate(both.rows["image_id"]):
        own = data.images[at[name]] if name in at else phantom.images[0]
        assert np.array_equal(both.images[number], own)
        mask = data.masks[at[name]] if name in at else phantom.masks[0]
        assert np.array_equal(both.masks[number], mask)
    for subset in ("validation", "test"):
        assert np.array_equal(both.part(subset)[0], data.part(subset)[0])


def test_a_phantom_that_is_tested_on_shares_no_patient_with_one_that_trains(
    phantom, home, monkeypatch
):
    wanted = []
    monkeypatch.setattr(
        chest_phantom, "write", lambda place, own: wanted.append((place, own)) or phantom
    )
    data = other_hospitals.phantom_slices(SETTINGS, 30, phantom)
    assert set(data.rows["subset"]) == {"train"}
    for name in ("image_id", "patient_id"):
        assert data.rows[name].str.startswith(other_hospitals.PHANTOM).all()
    assert (data.masks[:] == 1).any(axis=(1, 2)).all()
    other_hospitals.phantom_slices(SETTINGS, 30, home)  # no phantom
    seeds = [own.seed for _, own in wanted]
    assert SMALL_PHANTOM.seed == SETTINGS.seed == seeds[1] != seeds[0]
    # Patients of other seeds differ, and one phantom does not replace another.
    assert len({place for place, _ in wanted}) == 2
    assert all(place.is_relative_to(paths.cache()) for place, _ in wanted)
    assert {own.patients for _, own in wanted} == {30}
