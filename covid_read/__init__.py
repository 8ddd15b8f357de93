"""A scan of one's own, recognised, named and outlined: `read`, or ``covid-read``.

The network that outlines it is trained, and tested on other hospitals, in `other_hospitals`. For
research and teaching only; not a medical device.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import covid_utils
from covid_read import pages
from covid_read.cases import Batch
from covid_read.extent import BATCH, Outline, crops, on_whole_slices
from covid_read.folder import FORMATS, NIFTI, Summary, Wishes, check, read_all
from covid_read.shipped import Part
from covid_read.stages import NAME, OUTLINE, RECOGNISE, STAGES, Levels, Stages
from covid_utils import paths
from covid_utils.errors import ParameterError
from covid_utils.registry import MANIFESTATIONS, name_of

#: The pack that comes with a clone.
MODEL = paths.PROJECT / "models" / "sample"
#: Exit codes of the command: everything was read, some of it, nothing.
ALL, SOME, NONE = 0, 3, 2
#: Columns of `Result.cases`.
HEADINGS = ["name", "folder", "modality", "slices", "recognised", "named", *MANIFESTATIONS]
HEADINGS += ["said", "record"]
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
        """A row for each case: what all stages say, or why one says nothing.

        Of each manifestation the affected share of the lung field in %; ``record`` has the content
        of its ``case.json``.
        """
        rows = []
        for record in self.summary.records:
            found = record["manifestations"] or {}
            row = {name: record[name] for name in ("name", "folder", "modality", "slices")}
            row |= {"recognised": pages.recognised(record), "named": pages.named(record)}
            row |= {name: each["share_of_lung_field_percent"] for name, each in found.items()}
            rows.append(row | {"said": " ".join(pages.remarks(record)), "record": record})
        return pd.DataFrame(rows, columns=HEADINGS)

    def __repr__(self) -> str:
        return pages.counted(self.summary.records, self.summary.refused)

    def _repr_html_(self) -> str:
        table = self.cases.drop(columns=["folder", "record"]).rename(columns=name_of)
        shares = table.to_html(index=False, float_format="{:.1f}".format, na_rep="")
        images = []
        for record in self.summary.records:
            path = self.folder / record["folder"] / "overlay.png"
            if len(images) < PICTURES and path.is_file():
                content = base64.b64encode(path.read_bytes()).decode()
                alt = escape(pages.shown(record["name"]))
                images.append(f'<img alt="{alt}" src="data:image/png;base64,{content}">')
        refused = "".join(f"<li>{escape(reason)}</li>" for reason in self.summary.refused)
        return (
            f"{shares}<p>Shares of the lung field in per cent. {pages.NOTICE}</p>"
            f"{''.join(images)}<ul>{refused}</ul>"
        )


def read(
    inputs: Path | str | Iterable[Path | str],
    out: Path | str | None = None,
    *,
    model: Path | str = MODEL,
    formats: Sequence[str] = (NIFTI,),
    probabilities: bool = False,
    stages: Sequence[int] = STAGES,
    xrays: bool = False,
    batch: int = BATCH,
    tell: Callable[[int], None] = lambda slices: None,
) -> Result:
    """Recognise scans, name the manifestations in CT slices and volumes, and outline them.

    Args:
        inputs: Pictures, DICOM and NIfTI files, ZIP archives, folders of these.
        out: Folder of results, new or of earlier ones; a temporary one if it is not given.
        model: A shipped network, or the folder that holds one.
        formats: Of masks: ``nifti`` (of a picture PNG), ``dicom-seg``.
        probabilities: Whether to write the probability of each pixel's label, too.
        stages: 1 recognises, 2 names manifestations, 3 outlines them.
        xrays: Whether to treat pictures as X-rays; unlike DICOM files, they do not say so.
        batch: Slices per batch.
        tell: Is called with the number of slices of each batch that is done.
    """
    formats = [formats] if isinstance(formats, str) else formats
    stages = [stages] if isinstance(stages, int) else stages
    for name, given, known in (("formats", formats, FORMATS), ("stages", stages, STAGES)):
        strange = [each for each in given or () if each not in known]
        if strange or not given:
            wrong = f"{strange[0]!r} is none of" if strange else "name at least one of"
            raise ParameterError(f"{name}: {wrong} {', '.join(map(str, known))}.")
    if batch < 1:
        raise ParameterError(f"batch is {batch}; it must be 1 or more.")
    named = [inputs] if isinstance(inputs, (str, os.PathLike)) else [*inputs]
    if "" in named:
        raise ParameterError("an input has an empty name; name a file or a folder.")
    if out is not None:
        check(Path(out))
    outline, asked, about = _load(Path(model), batch, stages)
    kept = tempfile.TemporaryDirectory(prefix="covid-read-") if out is None else None
    folder = Path(kept.name if kept else out)
    wishes = Wishes(formats, probabilities, batch, about, asked, xrays)
    summary = read_all([Path(each) for each in named], folder, outline, wishes, tell)
    return Result(folder, summary, kept)


def _load(model: Path, batch: int, wanted: Sequence[int]) -> tuple[Outline, Stages, dict[str, Any]]:
    """The networks of a pack, and what ``case.json`` says of them."""
    from covid_read import heads, presence, shipped
    from covid_utils.training import reproducible

    file = model / "shipped.npz" if model.is_dir() else model
    if not file.is_file() or not shipped.checksum(file).is_file():
        raise ParameterError(
            f"{model}: holds no shipped network with its checksum; name its file or folder."
        )
    reproducible.overrule()
    parts = shipped.read(file)
    places = (file.parent, paths.models(file.parent.name))
    place = next((each for each in places if heads.path(each).is_file()), None)
    if place:  # newer than what was packed
        parts |= shipped.read(heads.path(place))
    outline, levels, about = _outline(parts, batch, file)
    about |= {"model": file.name, "sha256": shipped.checksum(file).read_text("ascii").split()[0]}
    about["versions"] = {"covid_utils": covid_utils.__version__}
    about["versions"] |= {name: version(name) for name in ("keras", "numpy")}
    recognition = naming = ""  # not wanted
    if RECOGNISE in wanted:
        part = parts.get(heads.PART)
        recognition = heads.load(part, place or file.parent) if part else heads.ABSENT
        about[heads.PART] = part and part.about
    if NAME in wanted:
        part = parts.get(presence.PART)
        naming = presence.load(part) if part else presence.ABSENT
        about[presence.PART] = part and part.about
    return outline, Stages(recognition, naming, OUTLINE in wanted, levels), about


def _outline(
    parts: Mapping[str, Part], batch: int, file: Path
) -> tuple[Outline, Levels | None, dict[str, Any]]:
    """The network that outlines, and how unlike slices are those that trained it."""
    from covid_read import likeness, shipped
    from covid_utils.training import predict_stream

    committee, settings = shipped.committee(parts[shipped.OUTLINES])
    if settings.crop != "field" or settings.stream != "all":
        raise ParameterError(
            f"{file}: not a network of all manifestations in the lung field; name another one."
        )

    def predict(images: np.ndarray, room: np.ndarray) -> np.ndarray:
        given = predict_stream.probabilities(committee, images, settings, room, batch)
        return np.concatenate([*given])

    own, levels = settings.preprocessing, None
    if likeness.PART in parts:
        judge = likeness.load(parts[likeness.PART], committee, settings)

        def levels(given: Batch) -> tuple[np.ndarray, np.ndarray]:
            return judge(crops(given, own).images)

    about = {"trainings": settings.members, "preprocessing": vars(own)}
    return on_whole_slices(predict, own), levels, about
