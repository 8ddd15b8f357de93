"""What people open first: a picture of each case, a sheet of all, and a list of every file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from covid_read.extent import Extent
from covid_utils.data.labels import MASK_WEIGHT, overlay
from covid_utils.registry import INK, LABEL_CLASSES, name_of
from covid_utils.writing import whole

#: Longest side and least width of a slice in a picture, and height of a line of its legend.
LONGEST, LEAST, LINE = 512, 256, 26
#: Weight of a colour inside a lesion of probability 1; it falls with that, as the scale shows.
WEIGHT = 2 * MASK_WEIGHT
#: Columns of the list of files.
COLUMNS = ("file", "status", "case", "message", "recognised", "named", "outlined")
_STYLE = f"""
body {{ font: 15px/1.4 sans-serif; margin: 2em; color: {INK} }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 1.5em }}
img {{ width: 100% }} h2 {{ font-size: 1em; overflow-wrap: anywhere; margin: .5em 0 }}
"""
NOTICE = "For research and teaching only; not a medical device."


def remarks(record: Mapping[str, Any]) -> list[str]:
    """What a reader of a case's record must know: why a stage says nothing, and the warnings."""
    reasons = (record[f"why_not_{stage}"] for stage in ("outlined", "recognised", "named"))
    known = record["presence"] and record["about"].get("presence")
    caution = known["caution"] if known else None
    return [*dict.fromkeys(said for said in (*reasons, caution, *record["warnings"]) if said)]


def recognised(record: Mapping[str, Any]) -> str:
    """What a case was recognised as, of each task in words; '' if it was not."""
    words = []
    for task, row in (record["recognition"] or {}).items():
        best, chance = max(row["probabilities"].items(), key=lambda each: each[1])
        unsure = "" if row["answer"] else "no answer; not sure enough, "
        words.append(f"{task}: {unsure}most like training images of {name_of(best)} ({chance:.0%})")
    return "; ".join(words)


def named(record: Mapping[str, Any]) -> str:
    """Probability of each manifestation in words, the mean over slices; '' if none was named."""
    known = (record["about"].get("presence") or {}).get("quality", {})
    constant = {name for name, row in known.items() if not row["better_than_chance"]}
    return ", ".join(
        f"{name_of(name)} {row['probability']:.0%}" + " (for every scan)" * (name in constant)
        for name, row in (record["presence"] or {}).items()
    )


def outlined(record: Mapping[str, Any]) -> str:
    """How far each manifestation that was outlined reaches, in words."""
    if record["manifestations"] is None:
        return ""
    words = []
    for name, row in record["manifestations"].items():
        share, ml = row["share_of_lung_field_percent"], row["ml"]
        if row["pixels"]:
            size = f"{share:.1f} %" if share >= 0.05 else "less than 0.1 %"
            size += " of the lung field" + (f", {ml:.1f} ml" if ml is not None else "")
            words.append(f"{name_of(name)}: {size}")
    return "; ".join(words) or "nothing"


def shown(name: str) -> str:
    """What the picture of a case shows, in words."""
    return f"Slice of {name} with its lesions"


def counted(records: Sequence[Mapping[str, Any]], refused: Sequence[str]) -> str:
    """How many cases were read and how often files were refused, in words."""
    return f"Cases read: {len(records)}, refusals: {len(refused)}"


def write_overlay(path: Path, extent: Extent) -> None:
    """Write the slice with most lesion, plain and in colours, stronger where they are surer."""
    labels = extent.labels[extent.shown]
    scale = min(max(1.0, LEAST / labels.shape[1]), LONGEST / max(labels.shape))
    size = tuple(max(1, round(side * scale)) for side in labels.shape[::-1])
    coloured = overlay(extent.picture, labels, weights=WEIGHT * extent.confidence)
    plain = np.repeat(extent.picture[..., None], 3, axis=-1)
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    width, height = size
    sheet = Image.new(
        "RGB", (max(2 * width, LONGEST), height + LINE * (len(LABEL_CLASSES) + 1)), "white"
    )
    for left, pixels in ((0, plain), (width, np.rint(255 * coloured).astype(np.uint8))):
        sheet.paste(Image.fromarray(pixels).resize(size, how), (left, 0))
    _legend(sheet, height, f"slice {extent.shown + 1} of {len(extent.labels)}")
    sheet.save(path, format="PNG")


def _legend(sheet: Image.Image, top: int, caption: str) -> None:
    """A scale of probability for each manifestation: its colour over middle gray."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    left, width, bar = 150, 256, LINE - 10
    draw.text((8, top + 5), "probability:", INK, font)
    draw.text((left + width + 16, top + 5), caption, INK, font)
    for share, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        draw.text((left + share * width, top + 5), f"{share:.0%}", INK, font, anchor)
    gray, chances = np.full((bar, width), 128, np.uint8), np.linspace(0, 1, width)
    for row, (label, name) in enumerate(LABEL_CLASSES.items(), 1):
        line = top + row * LINE
        # A margin keeps the edge, which is drawn in full colour, out of the scale.
        wide = overlay(
            np.pad(gray, 1),
            np.full((bar + 2, width + 2), label),
            weights=WEIGHT * np.pad(chances, 1)[None],
        )
        pixels = np.rint(255 * wide[1:-1, 1:-1]).astype(np.uint8)
        draw.text((8, line + 2), name_of(name), INK, font)
        sheet.paste(Image.fromarray(pixels), (left, line + 3))


def write_list(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """The list of all files as CSV, one row per file."""
    with whole(path) as partial:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(partial, index=False)


def is_list(path: Path) -> bool:
    """Whether a file is such a list."""
    return _rows(path) is not None


def listed_cases(path: Path) -> set[str]:
    """Folders of the cases in such a list, if there is one."""
    names = {row["case"] for row in _rows(path) or ()}
    return {name for name in names if name and Path(name).name == name}


def _rows(path: Path) -> list[dict[str, str]] | None:
    """Rows of such a list, whatever was added to them; None of any other file."""
    kinds = (OSError, UnicodeDecodeError, csv.Error)
    with suppress(*kinds), path.open(encoding="utf8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if tuple(reader.fieldnames or ()) == COLUMNS else None
    return None


def write_sheet(path: Path, records: Sequence[Mapping[str, Any]], refused: Sequence[str]) -> None:
    """A page with a picture of every case, its findings and warnings, and what was not read.

    ``records`` are those of the cases' JSON files, with the ``folder`` of each.
    """
    figures, heading = "\n".join(map(_figure, records)), counted(records, refused)
    reasons = "\n".join(f"<li>{escape(reason)}</li>" for reason in refused)
    not_read = f"<h2>Not read</h2>\n<ul>\n{reasons}\n</ul>\n" if refused else ""
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{_STYLE}</style>\n<h1>{heading}</h1>\n<p>{NOTICE}</p>\n<main>\n{figures}\n</main>\n"
        f"{not_read}</html>\n"
    )
    with whole(path) as partial:
        partial.write_text(page, encoding="utf8")


def _figure(record: Mapping[str, Any]) -> str:
    slices = "1 slice" if record["slices"] == 1 else f"{record['slices']} slices"
    words = [f"{record['modality'].replace('unknown', 'modality unknown')}, {slices}"]
    stages = {"recognised": recognised, "probabilities": named, "outlined": outlined}
    words += [f"{stage}: {said}" for stage, say in stages.items() if (said := say(record))]
    words += remarks(record)
    lines = "<br>".join(map(escape, words))
    name, folder = escape(record["name"]), escape(record["folder"])
    picture = ""
    if record["manifestations"] is not None:
        alt = escape(shown(record["name"]))
        picture = f'<img src="{folder}/overlay.png" alt="{alt}" loading="lazy">'
    return f"<section>{picture}<h2>{name}</h2><p>{lines}</p></section>"
