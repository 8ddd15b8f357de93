"""Store one chest in many ways, read it, and count the voxels that the masks mark.

``python benchmarks/geometry.py`` rewrites ``geometry.md``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from covid_read.folder import FORMATS, Wishes, read_all

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import own_scans

PAGE = Path(__file__).with_name("geometry.md")
#: Axes of a NIfTI volume: where the first, the second and the third run to.
CODES = ("RAS", "LPI", "SRA", "PSR", "LAS", "IPL")
TEXT = """# Where masks lie

`make geometry` stores one simulated chest with one lesion in many ways, has it read, with a
threshold in place of the network, and rewrites this page. Points in mm of the voxels that a mask
marks are compared with those of the voxels in the lesion; *equal* means the same to 0.01 mm.

{}
"""


def rows(folder: Path) -> Iterator[dict[str, object]]:
    """What becomes of each way, a row each."""
    for name, (axes, step) in own_scans.SERIES.items():
        place = folder / name.replace(" ", "_")
        written = own_scans.series(place, axes, step)
        points = np.concatenate([of[own_scans.is_lesion(of)] for of in written.values()])
        out = folder / "out" / place.name
        read_all([place], out, own_scans.outline, Wishes(FORMATS))
        frames = own_scans.seg_frames(out / place.name / "mask.dcm", written)
        seg = _equal(np.concatenate([at[is_marked] for _, at, is_marked in frames]), points)
        yield _row(f"DICOM, {name}", points, out / place.name / "mask.nii.gz", seg)
    for codes in CODES:
        path = folder / f"{codes}.nii.gz"
        every = own_scans.volume(path, codes)
        out = folder / "out" / codes
        read_all([path], out, own_scans.outline)
        points = every[own_scans.is_lesion(every)]
        yield _row(f"NIfTI, axes {codes}", points, out / path.name / "mask.nii.gz", "–")


def page(folder: Path) -> str:
    """The page, from scans that are written to a folder."""
    return TEXT.format(pd.DataFrame(rows(folder)).to_markdown(index=False))


def _row(name: str, points: np.ndarray, path: Path, seg: str) -> dict[str, object]:
    mask = nibabel.load(path)
    marked = own_scans.voxel_points(mask.affine, mask.shape)[np.asarray(mask.dataobj) == 2]
    words = {"stored as": name, "voxels in the lesion": len(points)}
    return words | {"mask as NIfTI": _equal(marked, points), "mask as DICOM SEG": seg}


def _equal(marked: np.ndarray, points: np.ndarray) -> str:
    one = set(map(tuple, np.round(marked, 2)))
    other = set(map(tuple, np.round(points, 2)))
    return "equal" if one == other else f"{len(one ^ other)} differ"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(page(Path(name)), encoding="utf8")
    print(f"Updated {PAGE.parent.name}/{PAGE.name}.")
