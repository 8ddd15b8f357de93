"""Show `covid-read` what it should read and what it should not, and count what it says.

``python benchmarks/refusal.py`` rewrites ``refusal.md``. Real scans take part where the variable
``COVID_DATA_DIR`` names the folder that holds them; which ones, the committed manifest says.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import skimage
from PIL import Image, ImageDraw, ImageFont

import chest_phantom
import covid_read
from covid_read import cases, shipped
from covid_utils import params, paths
from covid_utils.data import gray_scale, readers
from covid_utils.data.collection import Collection
from covid_utils.registry import EXTERNAL_SETS, LESION_SETS

PAGE = Path(__file__).with_name("refusal.md")
#: Pictures of a kind; slices that each kind of altered ones is made of.
COUNT, BASE = 20, 12
#: Canonical gray value of air, lung, fat, muscle and bone -> brightness in a T1-weighted MR.
RESONANCE = (0, 80, 212, 238, 255), (5, 25, 250, 110, 60)
#: Kinds of slices that are named more than once.
LIDC = "CT, lidc-idri"
CHOSEN, MEASURED = "CT, other hospitals, chosen on", "CT, other hospitals, measured only"
#: What can become of a picture.
REFUSED, FLAGGED, SILENT = "refused", "flagged", "outlined without a word"
VERDICTS = (REFUSED, FLAGGED, SILENT)
WORDS = ("the", "lungs", "of", "patients", "without", "a", "fever", "show", "no", "opacity", "and")
TEXT = """# What is refused

`make refusal DATA=folder` shows `covid-read` pictures of many kinds, one at a time and as PNG, so
without Hounsfield units, and rewrites this page. *Refused*: nothing is outlined, and a sentence
says why. *Flagged*: it is outlined, with a warning that it is unlike the slices that the network
learned from, that the picture's edge cuts the lungs, or that the spine is on top. Likeness is a
distance of the encoder's features; its limit was set on training slices that were held out, to flag
5 % of them. X-rays are told apart by a rule that 80 of nih-adult and 80 of chest_xray taught, so
covid-chestxray-dataset alone tests it. Measured with the pack whose SHA-256 begins with {digest}.

{table}

What is to be read should be outlined without a word, and what is not should not. Settings of the
network and of the rules were chosen on some volumes of other hospitals; the others were measured
only. By eye all of those are stored upside down, so those of them that pass without a word are
missed. *Altered CT* is made of slices of the former and of LIDC-IDRI, or of the phantom without
these. A mirrored slice cannot be told: it looks like another chest, and its lesions are found as
well.
"""


def part(picture: np.ndarray, *shares: tuple[float, float]) -> np.ndarray:
    """Some of the rows and columns, from and to a share of them."""
    kept = [
        slice(round(low * length), round(high * length))
        for (low, high), length in zip(shares, picture.shape, strict=True)
    ]
    return picture[tuple(kept)]


def resonance(picture: np.ndarray) -> np.ndarray:
    """A CT slice with fat brighter than muscle and bone dark."""
    gray = gray_scale.landmarks(picture).curve[picture]
    return np.interp(gray, *RESONANCE).astype(np.uint8)


def reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture of few pixels."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


#: What is made of good slices, and how.
MADE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda each: 255 - each,
    "upside down": lambda each: each[::-1],
    "mirrored": lambda each: each[:, ::-1],
    "on its side": np.rot90,
    "one half": lambda each: part(each, (0, 1), (0, 0.5)),
    "lower half": lambda each: part(each, (0.5, 1), (0, 1)),
    "middle": lambda each: part(each, (0.25, 0.75), (0.25, 0.75)),
    "one lung": lambda each: part(each, (0.25, 0.75), (0.15, 0.5)),
    "reduced to 48 pixels": lambda each: reduced(each, 48),
    "reduced to 24 pixels": lambda each: reduced(each, 24),
    "contrast of a T1 MR": resonance,
}


def scans(phantom: Path) -> Iterator[tuple[str, bool, list[np.ndarray]]]:
    """Kinds of slices and X-rays, whether they are to be read, and some of each."""
    settings = chest_phantom.Settings(patients=COUNT, ct_size=256, xray_size=256)
    rows = readers.read_all(chest_phantom.write(phantom, settings)).rows
    here = Collection(rows, phantom, pd.DataFrame())
    yield "phantom CT", True, some(here, dataset=LESION_SETS)
    yield "phantom X-rays", False, some(here, modality="X-ray")
    if not (folder := os.environ.get("COVID_DATA_DIR")):
        return
    manifest = pd.read_csv(
        paths.PROJECT / "results" / "sample" / "data" / "manifest.csv", keep_default_na=False
    )
    there = Collection(manifest, paths.scans(folder), pd.DataFrame())
    yield "CT that trained", True, some(there, dataset=LESION_SETS)
    for name, volumes in volumes_of(there).items():
        yield name, True, some(there, dataset=EXTERNAL_SETS, patient_id=volumes)
    yield LIDC, True, some(there, dataset="lidc-idri")
    yield "CT, COVID-CT (figures of papers)", True, some(there, dataset="covid-ct")
    yield "coronal CT", False, some(there, modality="CT", view="Coronal")
    for name in ("covid-chestxray-dataset", "nih-adult", "chest_xray"):
        yield f"X-rays, {name}", False, some(there, dataset=name, modality="X-ray")


def volumes_of(collection: Collection) -> dict[str, tuple[str, ...]]:
    """Volumes of other hospitals that settings were chosen on, and the others."""
    chosen = tuple(params.load("sample", "07_other_hospitals")["chosen_on"].split(", "))
    names = collection.select(dataset=EXTERNAL_SETS)["patient_id"].unique()
    is_chosen = np.array([name.endswith(chosen) for name in names])
    return {CHOSEN: tuple(names[is_chosen]), MEASURED: tuple(names[~is_chosen])}


def some(collection: Collection, **criteria: str | tuple[str, ...]) -> list[np.ndarray]:
    """Pictures evenly spread over the rows of a collection, uint8 (height, width)."""
    rows = collection.select(**criteria)
    chosen = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, COUNT).astype(int))]
    return [readers.load_image(collection.root, row) for row in chosen.itertuples()]


def noise(rng: np.random.Generator) -> np.ndarray:
    """Noise of some strength and grain."""
    grain = cv2.GaussianBlur(rng.standard_normal((256, 256)), (0, 0), rng.uniform(0.3, 12))
    return np.clip(128 + rng.uniform(20, 90) * grain / grain.std(), 0, 255).astype(np.uint8)


def text(rng: np.random.Generator) -> np.ndarray:
    """A page of words."""
    page = Image.new("L", (400, 500), int(rng.integers(200, 256)))
    draw, size = ImageDraw.Draw(page), int(rng.integers(10, 24))
    for top in range(20, 470, round(1.5 * size)):
        draw.text((20, top), " ".join(rng.choice(WORDS, 8)), 20, ImageFont.load_default(size))
    return np.asarray(page)


def kinds(phantom: Path) -> Iterator[tuple[str, bool, list[np.ndarray]]]:
    """All kinds: name, whether they are to be read, and pictures, gray or in colour."""
    good = {}
    for name, is_good, pictures in scans(phantom):
        if is_good:
            good[name] = pictures
        yield name, is_good, pictures
    # What trained would be too easy, figures of papers are cut, and some volumes upside down.
    whole = [each for name, of in good.items() if name in (CHOSEN, LIDC) for each in of]
    base = whole or good["phantom CT"]
    for name, change in MADE.items():
        chosen = (base[at] for at in np.linspace(0, len(base) - 1, BASE).astype(int))
        yield f"altered CT: {name}", name == "mirrored", [change(each) for each in chosen]
    files = sorted(Path(skimage.__file__).parent.joinpath("data").glob("*.[pj][np]g"))
    photographs = [Image.open(file) for file in files]
    yield "photographs", False, [np.asarray(each.convert("RGB")) for each in photographs]
    yield "photographs in gray", False, [np.asarray(each.convert("L")) for each in photographs]
    rng = np.random.default_rng(2020)
    yield "noise", False, [noise(rng) for _ in range(COUNT)]
    yield "pages of text", False, [text(rng) for _ in range(COUNT)]


def read(folder: Path, model: Path | str = covid_read.MODEL) -> pd.DataFrame:
    """How many pictures of each kind `covid-read` refuses, flags, and outlines without a word.

    Args:
        folder: An empty one, for the pictures and the results.
        model: The network.
    """
    given, pictures = [], folder / "pictures"
    pictures.mkdir()
    for number, (kind, is_good, some_of_it) in enumerate(kinds(folder / "phantom")):
        for at, picture in enumerate(some_of_it):
            name = f"{number:02}-{at:02}.png"
            Image.fromarray(np.ascontiguousarray(picture)).save(pictures / name)
            given.append({"kind": kind, "to be read": "yes" if is_good else "no", "name": name})
    summary = covid_read.read(pictures, folder / "out", model=model, stages=(3,)).summary
    records = {Path(record["name"]).name: record for record in summary.records}
    table = pd.DataFrame(given)
    table["verdict"] = [verdict(records.get(name)) for name in table["name"]]
    counts = pd.crosstab([table["to be read"], table["kind"]], table["verdict"])
    counts = counts.reindex(columns=VERDICTS, fill_value=0)
    order = (
        table[["to be read", "kind"]]
        .drop_duplicates()
        .sort_values("to be read", ascending=False, kind="stable")
    )
    counts = counts.loc[list(order.itertuples(index=False, name=None))]
    counts.insert(0, "pictures", counts.sum(axis=1))
    return counts.reset_index()


def verdict(record: dict[str, object] | None) -> str:
    """What became of a picture; one that was not even read has no record."""
    if record is None or record["why_not_outlined"]:
        return REFUSED
    return FLAGGED if set(record["warnings"]) - {cases.INFERRED} else SILENT


def main() -> None:
    """Read pictures of all kinds, and write the page."""
    with tempfile.TemporaryDirectory() as name:
        table = read(Path(name))
    digest = shipped.checksum(covid_read.MODEL / "shipped.npz").read_text("ascii")[:12]
    page = TEXT.format(digest=digest, table=table.to_markdown(index=False))
    PAGE.write_text(page, encoding="utf8")
    print(f"Updated {paths.shown(PAGE)}.")


if __name__ == "__main__":
    main()
