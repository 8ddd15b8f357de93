"""Controls: a leak that is there is found in proportion, and where there is none, none is found."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import join, manifest, scans_of

from covid_utils.data import splits
from covid_utils.data.image_conditions import ADULT_SOURCE, SOURCES, Conditions
from covid_utils.evaluation import bootstrap, condition_scores, intervals
from covid_utils.registry import RECOGNITION_CLASSES
from covid_utils.training import controls, recognition_ladder
from covid_utils.training.head import PAPER

SETTINGS = PAPER | {"steps": 100, "standardise": True}


@pytest.fixture(scope="module")
def phantom_scans(tmp_path_factory):
    """X-rays of a phantom without marks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVID_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(controls, "UNMARKED", replace(controls.UNMARKED, patients=40))
        return controls.unmarked()


def accuracy(predictions, task, model):
    """Mean over test images and trainings, with its interval over both."""
    chosen = predictions.query("subset == 'test' and task == @task and model == @model")
    hits = chosen.assign(hit=(chosen["truth"] == chosen["predicted"]).astype(float))
    table = hits.pivot_table(index=["patient_id", "image_id"], columns="run", values="hit")
    return bootstrap.mean(table.to_numpy(), table.index.get_level_values("patient_id").to_numpy())


def test_marks_of_hospitals_are_found_in_proportion_to_their_strength(phantom_scans):
    table = condition_scores.leak(controls.answers(phantom_scans, (0.0, 0.25, 1.0)))
    none, weak, strong = table.itertuples()
    assert none.low < 0 < none.high
    assert none.truth == 0
    assert 0.2 < weak.truth < 0.7 < strong.truth
    for one in (none, weak, strong):  # other patients show what is true of the same ones
        assert one.low <= one.truth <= one.high
    assert weak.low > 0
    assert weak.high < strong.low
    assert strong.share == pytest.approx(1, abs=0.15)


@pytest.fixture(scope="module")
def alike():
    """Predictions for patients of one image each, whose features depend on their class alone."""
    parts = [
        manifest({f"{label}{i}": 1 for i in range(300)}, SOURCES[label], label)
        for label in RECOGNITION_CLASSES
    ]
    parts.append(manifest({f"adult{i}": 1 for i in range(100)}, ADULT_SOURCE))
    rows = splits.assign(join(*parts), seed=1, test=20)
    is_class = rows["label"].to_numpy()[:, None] == np.array(RECOGNITION_CLASSES)
    values = 1.5 * is_class + np.random.default_rng(0).normal(size=is_class.shape)
    table = pd.DataFrame(values, rows["image_id"], dtype=np.float32)
    images = Conditions(scans_of(rows), {}, seed=1)
    trainings = {"R0": 1, "R1": 1, "R2": 5}
    train = recognition_ladder.train
    return [train(name, images, table, SETTINGS, number) for name, number in trainings.items()]


@pytest.mark.parametrize("model", ["head", "nearest neighbour"])
@pytest.mark.parametrize("task", ["2 classes", "4 classes"])
def test_without_a_leak_the_conditions_agree(alike, task, model):
    values = [accuracy(predictions, task, model) for predictions in alike]
    for earlier, later in itertools.pairwise(values):
        gap = intervals.difference(later, earlier)
        assert gap.low < 0 < gap.high
        assert abs(gap.value) < 0.06
    assert not any(one.query("subset == 'test'")["seen_patient"].any() for one in alike)
