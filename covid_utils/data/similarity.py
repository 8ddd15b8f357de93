"""Which images show the same thing.

A perceptual hash finds the same picture under two patients, in another format or size. A rotation-
and flip-tolerant descriptor finds turned or mirrored copies and neighbouring slices; it stands in
for the patient where none is named.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtri

#: Side of the block of low frequencies that the hash is made of: 16 x 16 = 256 bits.
HASH_SIDE = 16
#: Largest amplitude of a picture that is flat: rounding makes a hundredth of it.
FLAT = 1.0
#: Hashes that differ in at most this many of the 256 bits show the same picture. Of 4,321 real
#: images 15 pairs of different patients lie below, all of them copies; different phantom patients
#: are at least 20 bits apart.
SAME_BITS = 16
#: Copies that the hashes miss, found by eye: the ``image_id`` of both. Here the brightness was
#: changed, and 22 bits differ. Wider limits would take different phantom patients for one.
_IMAGES = "covid-chestxray-dataset/images"
KNOWN_COPIES = (
    (f"{_IMAGES}/A7E260CE-8A00-4C5F-A7F5-27336527A981.jpeg", f"{_IMAGES}/case_76_1-3.png"),
)
#: Correlation from which two slices can be near copies. Of 846 real CT slices, the pairs above it
#: are copies and neighbouring slices; of pairs of different papers, 1 in 3,700 lies above.
NEAR = 0.6
#: And this many standard deviations above the usual: where all images are alike, as in the phantom,
#: being alike says less.
OUTSTANDING = 4.5
#: With fewer pairs than this, what is usual is not known.
FEWEST_PAIRS = 1000

_ANGLES, _RADII, _SIDE = 96, 36, 96
#: Standard deviations, in pixels of the reduced image, of the band that is compared: vessels and
#: lesions, which differ between patients, and not the outline of the chest, which does not.
_FINE, _BROAD = 1.0, 4.0
#: Images compared with all others at a time; bounds the memory.
_BLOCK = 64


def perceptual_hash(gray: np.ndarray) -> str:
    """Which of the 256 lowest frequencies are above the median, in hexadecimal; '' if flat."""
    small = cv2.resize(gray, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()
    low[0] = 0  # the mean brightness says nothing
    if np.abs(low).max() < FLAT:
        return ""
    return np.packbits(low > np.median(low)).tobytes().hex()


def same_pictures(hashes: Sequence[str]) -> np.ndarray:
    """Pairs of images whose `perceptual_hash` is that of one picture: int64 (pairs, 2)."""
    known = np.flatnonzero([bool(value) for value in hashes])  # flat pictures have none
    if len(known) < 2:
        return np.empty((0, 2), np.int64)
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(len(known), -1)
    pairs = []
    for first in range(0, len(words), _BLOCK):
        block = words[first : first + _BLOCK]
        differ = np.bitwise_count(block[:, None] ^ words[None, first:]).sum(-1, dtype=np.uint16)
        # The columns start at ``first`` too, so right of the diagonal is each pair once.
        pairs.append(np.argwhere(np.triu(differ <= SAME_BITS, 1)) + first)
    return known[np.concatenate(pairs)]


def copies(manifest: pd.DataFrame) -> np.ndarray:
    """Pairs of rows that show the same picture, `KNOWN_COPIES` among them: int64 (pairs, 2)."""
    at = {name: position for position, name in enumerate(manifest["image_id"])}
    known = [sorted((at[a], at[b])) for a, b in KNOWN_COPIES if a in at and b in at]
    return np.concatenate(
        [same_pictures(manifest["phash"].tolist()), np.array(known, np.int64).reshape(-1, 2)]
    )


def descriptor(gray: np.ndarray) -> np.ndarray:
    """The fine band in polar coordinates, float32 (angles, radii) of length 1."""
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    band = cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _BROAD)
    band /= np.sqrt(cv2.GaussianBlur(band**2, (0, 0), 2 * _BROAD) + 25)  # evens out contrast
    centre = ((_SIDE - 1) / 2, (_SIDE - 1) / 2)
    polar = cv2.warpPolar(band, (_RADII, _ANGLES), centre, _SIDE / 2, cv2.INTER_LINEAR)
    # A ring far out covers more of the image than one near the centre.
    area = (np.arange(_RADII, dtype=np.float32) + 0.5) / _RADII
    polar = (polar - np.average(polar, weights=np.broadcast_to(area, polar.shape))) * np.sqrt(area)
    return polar / max(float(np.linalg.norm(polar)), 1e-6)


def near_copies(descriptors: np.ndarray) -> np.ndarray:
    """Pairs of images that look alike after the best rotation, mirrored or not: int64 (pairs, 2).

    A pair counts if its correlation is high, and stands out among those of all pairs (by Fisher's
    z, with the spread of the upper half). ``descriptors`` is float32 (images, angles, radii).
    """
    spectra = np.fft.rfft(descriptors, axis=1)
    best = [_best_turn(spectra[first + 1 :], spectra[first]) for first in range(len(spectra) - 1)]
    return np.column_stack(np.triu_indices(len(spectra), 1))[_outstanding(best)]


def near_copies_of(descriptors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The same for the images of two sets: positions in the first and in the other."""
    spectra, theirs = (np.fft.rfft(part, axis=1) for part in (descriptors, others))
    is_near = _outstanding([_best_turn(theirs, one) for one in spectra])
    return np.argwhere(is_near.reshape(len(spectra), len(theirs)))


def _best_turn(spectra: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Largest correlation of images with one over all its rotations, mirrored or not."""
    # The correlation of all rotations at once; without the conjugate, of the mirror image.
    ways = [
        np.fft.irfft(np.einsum("nfr,fr->nf", spectra, way), _ANGLES, axis=1)
        for way in (np.conj(one), one)
    ]
    return np.max(ways, axis=(0, 2)).astype(np.float32)


def _outstanding(correlations: list[np.ndarray]) -> np.ndarray:
    """Which correlations are those of copies, all in one row."""
    best, limit = np.concatenate([*correlations, np.empty(0, np.float32)]), NEAR
    if len(best) >= FEWEST_PAIRS:
        middle, high = np.arctanh(np.clip(np.quantile(best, [0.5, 0.9]), 0, 0.999))
        limit = max(NEAR, np.tanh(middle + OUTSTANDING * (high - middle) / ndtri(0.9)))
    return best >= limit


def join(rows: pd.DataFrame, by: list[str], pairs: np.ndarray) -> pd.Series:
    """Smallest ``patient_id`` of all rows connected by values of columns or pairs of positions."""
    count = len(rows)
    links, nodes = [np.asarray(pairs, np.int64).reshape(-1, 2)], count
    for column in by:
        value, names = pd.factorize(rows[column])
        links.append(np.column_stack([np.arange(count), nodes + value]))
        nodes += len(names)
    start, end = np.concatenate(links).T
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    joined = rows["patient_id"].groupby(component[:count]).transform("min")
    return joined.set_axis(rows.index)
