"""The simulated chest: anatomy, disease, and the pictures that CT and X-rays make of it."""

import numpy as np
import pytest
from scipy import ndimage

from chest_phantom.anatomy import build
from chest_phantom.disease import Volume, infect
from chest_phantom.projection import line_integrals
from chest_phantom.settings import CONSOLIDATION, EFFUSION, GROUND_GLASS, HOSPITALS, NODULE
from chest_phantom.xray import take_xray


@pytest.fixture(scope="module")
def chest():
    return build(np.random.default_rng(3), 160)


@pytest.fixture(scope="module")
def healthy(chest):
    return infect(chest, "normal", 0.0, 3)


def test_a_healthy_chest_has_its_parts(chest, healthy):
    lung = chest.lung
    inside = healthy.hu[lung.box][(lung.share > 0.99) & (lung.vessel == 0) & (lung.wall == 0)]
    assert -930 < np.median(inside) < -780
    assert (healthy.hu > 400).mean() > 0.005, "bone"
    assert 2.0 < lung.share.sum() * np.prod(healthy.spacing) / 1e6 < 8.0, "litres"
    assert not healthy.labels.any()
    assert set(np.unique(lung.lobe[lung.share > 0.5])) == set(range(5))
    assert np.array_equal(build(np.random.default_rng(3), 160).tissue, chest.tissue)


@pytest.mark.parametrize("pattern", ["covid", "viral", "bacterial", "nodule"])
def test_labels_only_where_a_lesion_changes_the_density(chest, healthy, pattern):
    volume = infect(chest, pattern, 0.9, 3)
    change = np.abs(volume.hu.astype(int) - healthy.hu)
    labelled = volume.labels > 0
    assert labelled.sum() > 30
    assert (change[labelled] >= 20).mean() > 0.995
    outside = np.ones(labelled.shape, bool)
    outside[chest.lung.box] = chest.lung.share == 0
    assert not (labelled & outside).any()
    assert (change[outside] == 0).all()


@pytest.mark.parametrize(
    ("pattern", "label", "low", "high"),
    [
        ("covid", GROUND_GLASS, -700, -300),
        ("viral", GROUND_GLASS, -750, -330),
        ("bacterial", CONSOLIDATION, -100, 100),
        ("covid", EFFUSION, 0, 30),
        ("nodule", NODULE, 0, 60),
    ],
)
def test_each_lesion_has_its_typical_density(chest, pattern, label, low, high):
    whole = np.zeros(chest.tissue.shape, bool)
    whole[chest.lung.box] = chest.lung.share == 1
    hu = []
    for seed in range(6):
        volume = infect(chest, pattern, 0.9, seed)
        inner = ndimage.binary_erosion(volume.labels == label, np.ones((1, 3, 3))) & whole
        hu.append(volume.hu[inner])
    hu = np.concatenate(hu)
    assert len(hu) > 100
    assert np.mean((hu >= low) & (hu <= high)) > 0.9


def test_covid_is_bilateral_peripheral_and_basal(chest):
    lung = chest.lung
    whole, near = lung.share > 0.5, lung.wall_distance < 25
    shares = []
    for seed in range(6):
        labels = infect(chest, "covid", 0.5, seed).labels[lung.box]
        sick = np.isin(labels, (GROUND_GLASS, CONSOLIDATION))
        assert 0.1 < lung.left[sick].mean() < 0.9
        assert lung.above_base[sick].mean() < lung.above_base[whole].mean()
        shares.append(near[labels == GROUND_GLASS].mean())
    assert min(shares) > 1.1 * near[whole].mean()
    assert np.mean(shares) > 1.3 * near[whole].mean()


# Bone weakens by more than its CT number says, 1.48 times at 1000 HU.
@pytest.mark.parametrize(
    ("hu", "per_mm"), [(0, 0.0195), (-1000, 0.0), (-500, 0.00975), (1000, 0.0195 * 2.48)]
)
def test_line_integrals_follow_beer_and_lambert(hu, per_mm):
    values = np.full((20, 40, 60), hu, np.int16)
    volume = Volume(values, np.zeros_like(values, np.uint8), (4.0, 2.0, 2.0), "normal", 0.0)
    for view, slabs, way in (("PA", 1, 80.0), ("PA", 4, 80.0), ("L", 1, 120.0)):
        sums = line_integrals(volume, view, slabs).sum(axis=0)
        np.testing.assert_allclose(sums, per_mm * way, rtol=1e-5)


def test_stronger_marks_separate_the_hospitals_and_mark_0_leaves_no_trace(healthy):
    distances = []
    for mark in (0.0, 0.25, 0.5, 1.0):
        north, south = (take_xray(healthy, size=96, hospital=n, mark=mark) for n in HOSPITALS)
        distances.append(np.abs(np.subtract(north, south, dtype=float)).mean())
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 2
    plain = take_xray(healthy, size=96)
    assert (north[4:16, 80:94].astype(int) - plain[4:16, 80:94]).max() > 100, "lead letter"
    assert (south[[0, -1]] == 0).all(), "the collimator's border"
