"""Lesions in a CT of one's own, outlined by the shipped network: `read`, or ``covid-read``.

For research and teaching only; not a medical device.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import covid_utils
from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.reading import pages
from covid_utils.reading.doubts import Levels
from covid_utils.reading.extent import BATCH, Outline, on_crops, on_whole_slices
from covid_utils.reading.folder import FORMATS, NIFTI, Summary, Wishes, read_all
from covid_utils.registry import name_of

#: The pack that comes with a clone.
MODEL = paths.PROJECT / "models" / "sample"
#: Exit codes of the command: everything was read, some of it, nothing.
ALL, SOME, NONE = 0, 3, 2
#: Cases whose picture a notebook shows.
PICTURES = 4


@dataclass(frozen=True)
class Result:
    """What was read, and the folder with everything that was written.

    Attributes:
        folder: Has ``index.html``, ``files.csv`` and a folder for each case.
        summary: A row for each file, a record for each case, a sentence for each refusal.
    """

    folder: Path
    summary: Summary = field(repr=False)
    _kept: Any = field(default=None, repr=False)  # a temporary folder goes when its object does

    @property
    def status(self) -> int:
        """`ALL`, `SOME` or `NONE`."""
        if not self.summary.records:
            return NONE
        return SOME if self.summary.refused else ALL

    @property
    def cases(self) -> pd.DataFrame:
        """A row for each case: affected share of the lung field in %, or why nothing is outlined.

        ``record`` has the content of its ``case.json``.
        """
        rows = []
        for record in self.summary.records:
            found = record["manifestations"] or {}
            shares = {name: row["share_of_lung_field_percent"] for name, row in found.items()}
            about = {name: record[name] for name in ("name", "folder", "modality", "slices")}
            said = " ".join(pages.remarks(record))
            rows.append(about | shares | {"said": said, "record": record})
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        table = self.cases.drop(columns=["folder", "record"], errors="ignore").rename(
            columns=name_of
        )
        pictures = [self.folder / each["folder"] / "overlay.png" for each in self.summary.records]
        shown = [path.read_bytes() for path in pictures if path.is_file()][:PICTURES]
        data = (base64.b64encode(content).decode() for content in shown)
        images = "".join(f'<img alt="" src="data:image/png;base64,{each}">' for each in data)
        refused = "".join(f"<li>{escape(reason)}</li>" for reason in self.summary.refused)
        caption = "Shares of the lung field in per cent."
        return (
            f"{table.to_html(index=False, float_format='{:.1f}'.format, na_rep='')}<p>{caption} "
            f"{pages.NOTICE}</p>{images}<ul>{refused}</ul>"
        )


def read(
    inputs: Path | str | Iterable[Path | str],
    out: Path | str | None = None,
    *,
    model: Path | str = MODEL,
    formats: Sequence[str] = (NIFTI,),
    probabilities: bool = False,
    batch: int = BATCH,
    tell: Callable[[int], None] = lambda slices: None,
) -> Result:
    """Outline lesions in CT slices and volumes.

    Args:
        inputs: Pictures, DICOM and NIfTI files, ZIP archives, folders of these.
        out: Folder of results, new or of earlier ones; a temporary one if it is not given.
        model: A shipped network, or the folder that holds one.
        formats: Of masks: ``nifti`` (of a picture PNG), ``dicom-seg``.
        probabilities: Whether to write the probability of each pixel's label, too.
        batch: Slices that go through the network at once.
        tell: Is called with the number of slices of each batch that is done.
    """
    if strange := sorted(set(formats) - set(FORMATS)):
        raise ParameterError(f"formats: {strange[0]!r} is none of {', '.join(FORMATS)}.")
    if batch < 1:
        raise ParameterError(f"batch is {batch}; at least one slice goes through at once.")
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    outline, levels, about = _load(Path(model), batch)
    kept = tempfile.TemporaryDirectory(prefix="covid-read-") if out is None else None
    folder = Path(kept.name if kept else out)
    wishes = Wishes(formats, probabilities, batch, about, levels)
    summary = read_all([Path(each) for each in named], folder, outline, wishes, tell)
    return Result(folder, summary, kept)


def _load(model: Path, batch: int) -> tuple[Outline, Levels | None, dict[str, Any]]:
    """A shipped network, how unlike slices are those that trained it, and ``case.json`` of it."""
    from covid_utils.training import likeness, predict_stream, reproducible, shipped

    file = model / "shipped.npz" if model.is_dir() else model
    if not file.is_file():
        raise ParameterError(f"{model}: holds no shipped network; name its file or folder.")
    reproducible.overrule()
    parts = shipped.read(file)
    committee, settings = shipped.committee(parts[shipped.OUTLINES])
    if settings.crop != "field" or settings.stream != "all":
        raise ParameterError(f"{file}: no network of all manifestations in the lung field.")

    def predict(images: np.ndarray, room: np.ndarray) -> np.ndarray:
        given = predict_stream.probabilities(committee, images, settings, room, batch)
        return np.concatenate([*given])

    about = {
        "model": file.name,
        "sha256": shipped.checksum(file).read_text("ascii").split()[0],
        "trainings": settings.members,
        "preprocessing": vars(settings.preprocessing),
        "versions": {"covid_utils": covid_utils.__version__}
        | {name: version(name) for name in ("keras", "numpy")},
    }
    levels = None
    if likeness.PART in parts:
        judge = likeness.load(parts[likeness.PART], committee, settings)
        levels = on_crops(judge, settings.preprocessing)
    return on_whole_slices(predict, settings.preprocessing), levels, about
