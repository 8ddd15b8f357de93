"""The lung field of slices from anywhere: phantom slices, where it is exact, and annotated ones."""

import numpy as np
import pandas as pd
import pytest
from phantom_chest import slices_of_a_chest

from covid_utils import paths
from covid_utils.data import cache, gray_scale, lung_field, readers
from covid_utils.data.gray_scale import HOUNSFIELD, LUNG_WINDOW
from covid_utils.data.images import Preprocessing
from covid_utils.data.readers.gray import to_uint8


def overlap(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def slices():
    return slices_of_a_chest(4)


@pytest.mark.parametrize("window", [LUNG_WINDOW, (-1024, 600)])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_field_is_the_lungs_in_any_window_and_either_way_up(slices, window, turn):
    found = [
        overlap(lung_field.field(to_uint8(hu, *window)[::turn]), lungs[::turn])
        for hu, lungs in slices
    ]
    assert np.mean(found) > 0.93


@pytest.mark.usefixtures("home")
def test_image_mask_and_field_of_a_row_have_one_geometry(phantom):
    rows = readers.read("medseg", phantom).rows.iloc[::4]
    settings = Preprocessing(96, 0.0, crop="field", gray="landmarks")
    made = (cache.images, cache.masks, cache.fields)
    images, masks, fields = (make(rows, phantom, settings)[:] for make in made)
    assert images.shape == masks.shape == fields.shape == (len(rows), 96, 96)
    inside = fields > 0
    assert np.median(images[inside]) < np.median(images[~inside]) - 50
    assert inside[masks > 0].mean() > 0.5
    # A field of lungs fills a good part of the square around it.
    assert 0.15 < inside.mean() < 0.9


@pytest.fixture(scope="module")
def rows():
    """Rows of the committed manifest of real scans."""
    path = paths.PROJECT / "results" / "sample" / "data" / "manifest.csv"
    return pd.read_csv(path, keep_default_na=False, dtype={"mask_path": str})


@pytest.mark.real
def test_annotators_agree_with_the_field_of_other_hospitals(rows, real_data):
    """Volumes v01 to v09; the mean over their 100 slices is 0.939."""
    external = rows[rows["dataset"] == "covid19-ct-external"]
    chosen = external[external["patient_id"].str[-3:] < "v10"]
    found = [
        overlap(
            lung_field.field(readers.load_image(real_data, row)), readers.load_lungs(real_data, row)
        )
        for row in chosen.itertuples()
    ]
    assert len(found) == 100
    assert np.mean(found) > 0.92


@pytest.mark.real
def test_published_lesions_lie_in_the_field_and_their_gray_is_canonical(rows, real_data):
    """Every fifth slice; of all 100, 0.92 of the lesion's pixels lie in 0.27 of the area."""
    inside = lesion = area = 0
    chosen = rows[rows["dataset"] == "medseg"].iloc[::5]
    marks = []
    for row in chosen.itertuples():
        image = readers.load_image(real_data, row)
        field, labels = lung_field.field(image), readers.load_mask(real_data, row)
        inside, lesion = (
            inside + (field & np.isin(labels, (1, 2))).sum(),
            lesion + (labels > 0).sum(),
        )
        area += field.mean() / len(chosen)
        marks.append(gray_scale.landmarks(image))
        assert str(marks[-1]) == row.gray
    assert inside / lesion > 0.88
    assert area < 0.32
    low, high = LUNG_WINDOW
    for name, unit in HOUNSFIELD.items():
        middle = np.nanmedian([getattr(one, name) for one in marks])
        assert abs(low + middle * (high - low) / 255 - unit) <= 30, name
