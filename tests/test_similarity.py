"""Finding copies: what survives a copy is found, what differs is not."""

import cv2
import numpy as np
import pandas as pd
import pytest

from covid_utils.data import similarity


def picture(seed, side=120):
    """A random smooth picture with blobs of several sizes."""
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), sigma) * sigma
        for sigma in (2, 4, 9)
    )
    return cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def recompressed(image):
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: cv2.resize(image, (77, 91), interpolation=cv2.INTER_AREA),
        lambda image: np.clip(image * 0.8 + 20, 0, 255).astype(np.uint8),
    ],
)
def test_a_perceptual_hash_survives_format_size_and_exposure(change):
    originals = [picture(seed) for seed in range(20)]
    hashes = [similarity.perceptual_hash(image) for image in originals]
    hashes += [similarity.perceptual_hash(change(image)) for image in originals]
    pairs = similarity.same_pictures(hashes)
    assert pairs.tolist() == [[i, i + 20] for i in range(20)]


def test_flat_pictures_are_like_nothing():
    flat = [np.zeros((64, 64), np.uint8), np.full((90, 70), 255, np.uint8)]
    flat.append(flat[0].copy())
    flat[2][5, 5] = 1
    hashes = [similarity.perceptual_hash(image) for image in (*flat, picture(1), picture(1))]
    assert hashes[:3] == ["", "", ""]
    assert similarity.same_pictures(hashes).tolist() == [[3, 4]]
    assert similarity.same_pictures(hashes[:3]).shape == (0, 2)


def test_same_pictures_counts_bits_and_works_across_blocks():
    words = np.random.default_rng(0).integers(0, 256, (200, 32), dtype=np.uint8)
    words[150] = words[3]
    words[150, :2] ^= 0xFF
    hashes = [word.tobytes().hex() for word in words]
    assert similarity.same_pictures(hashes).tolist() == [[3, 150]]
    words[150, 2] ^= 1
    assert len(similarity.same_pictures([word.tobytes().hex() for word in words])) == 0
    for few in ([], hashes[:1]):
        assert similarity.same_pictures(few).shape == (0, 2)


def turned(image, angle, flip):
    side = len(image)
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, 1.0)
    out = cv2.warpAffine(image, matrix, (side, side))
    return np.ascontiguousarray(out[:, ::-1]) if flip else out


@pytest.mark.parametrize(("angle", "flip"), [(0, True), (90, False), (137, False), (137, True)])
def test_turned_and_mirrored_copies_are_near(angle, flip):
    images = [picture(seed) for seed in range(5)] + [np.full((40, 50), 7, np.uint8)]
    images.append(turned(images[2], angle, flip))
    descriptors = np.stack([similarity.descriptor(image) for image in images])
    assert similarity.near_copies(descriptors).tolist() == [[2, 6]]


def test_where_all_images_are_alike_only_what_stands_out_is_a_copy():
    base, other = picture(0).astype(float), [picture(seed) for seed in range(1, 61)]
    # Every image is the base with something of its own: most pairs are above the fixed limit.
    shares = np.random.default_rng(1).uniform(0.1, 0.6, len(other))
    mixed = [base * (1 - s) + image * s for s, image in zip(shares, other, strict=True)]
    descriptors = [similarity.descriptor(image.astype(np.uint8)) for image in mixed]
    # With few images what is usual cannot be told, and the fixed limit alone counts.
    assert len(similarity.near_copies(np.stack(descriptors[:40]))) > 0.2 * 40 * 39 / 2
    copy = similarity.descriptor(turned(mixed[7].astype(np.uint8), 90, True))
    pairs = similarity.near_copies(np.stack([*descriptors, copy])).tolist()
    assert [7, 60] in pairs
    assert len(pairs) < 0.01 * 61 * 60 / 2


def test_join_connects_by_values_and_pairs_in_chains():
    rows = pd.DataFrame({"patient_id": ["d", "c", "b", "a", "a"], "sha256": list("xxyzw")})
    join, pairs = similarity.join, np.array([[1, 2]])
    assert join(rows, ["patient_id"], pairs).tolist() == ["d", "b", "b", "a", "a"]
    assert join(rows, ["patient_id", "sha256"], pairs).tolist() == ["b", "b", "b", "a", "a"]
    shifted = rows.set_axis(range(10, 15))
    assert join(shifted, ["patient_id"], []).index.tolist() == list(range(10, 15))
