"""The card of a pack: what its networks learned from, how well they do, what they are not for.

``card.md`` beside this file is its text, with places for what is computed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from covid_read import presence, shipped
from covid_utils import paths, runs
from covid_utils.data.gray_scale import LUNG_WINDOW
from covid_utils.errors import ResultsError
from covid_utils.registry import CHOSEN_ON, EXTERNAL, HOSPITALS, SHIPPED, STEPS, name_of
from covid_utils.report import render
from covid_utils.runs import read_table, select
from covid_utils.writing import whole

#: Settings of the training that the card names.
SETTINGS = {
    "members": "trainings averaged",
    "steps": "steps of each",
    "image_size": "pixels a side",
    "phantom_share": "share of phantom slices",
    "chosen_on": "settings chosen on volumes",
}
#: What is known of slices of other hospitals beside their extent.
ELSEWHERE = (
    "Elsewhere are {slices} slices of {volumes} volumes of other hospitals. Nobody has said which "
    "manifestations they show, so the last column tells nothing about right and wrong."
)


def write(profile: str) -> Path:
    """Write the card of a profile's shipped network beside it; returns where it is."""
    file = shipped.path(profile)
    if not file.is_file():
        remedy = "run its notebook of other hospitals first"
        raise ResultsError(f"{paths.shown(file)}: no shipped network here; {remedy}.")
    content = file.read_bytes()
    values = runs.read_provenance(profile, HOSPITALS)["parameters"]
    settings = [f"{words}: {values[name]}" for name, words in SETTINGS.items() if values.get(name)]
    text = (
        Path(__file__)
        .with_name("card.md")
        .read_text(encoding="utf8")
        .format(
            file=file.name,
            size=len(content) / 1e6,
            digest=hashlib.sha256(content).hexdigest(),
            settings="; ".join(settings),
            split=_split(profile),
            scores=render.markdown(_scores(profile)),
            density=_density(file),
            **_presence(file),
        )
    )
    card = file.with_name("card.md")
    with whole(card) as partial:
        partial.write_text(text, encoding="utf8")
    return card


def _density(file: Path) -> str:
    """What must be denser than healthy lung to be marked, if anything must."""
    margin = shipped.read(file)[shipped.OUTLINES].about["settings"]["attenuation_margin"]
    hounsfield = margin * (LUNG_WINDOW[1] - LUNG_WINDOW[0]) / 255
    sentence = (
        f"- What is less than {margin:g} gray values ({hounsfield:.0f} HU) denser than the slice's "
        "own healthy lung is never marked (`attenuation_margin`, as on the benchmark), so the "
        "faintest haze is left out.\n"
    )
    return sentence if margin else ""


def _split(profile: str) -> str:
    volumes = runs.read_predictions(profile, HOSPITALS)
    volumes = volumes.loc[volumes["subset"] == EXTERNAL, "patient_id"].nunique()
    return (
        f"Slices of {volumes} volumes of other hospitals. The settings were chosen on some of them "
        f"(`{CHOSEN_ON}`). On the others (`{EXTERNAL}`) no setting was compared, but an earlier "
        "network was scored on them, and what failed there led to changes. The benchmark's rows "
        "are of the same training without the benchmark's test slices "
        f"(step E6: {STEPS['E6']}), since the shipped network was trained on those too."
    )


def _scores(profile: str) -> pd.DataFrame:
    """Dice of lesions on other hospitals and, one step earlier, on the benchmark."""
    rows = select(
        read_table(profile, "tables/hospitals"), class_="lesion", metric="dice", network="small"
    )
    is_shipped = (rows["step"] == SHIPPED) & rows["tested on"].isin((EXTERNAL, CHOSEN_ON))
    is_before = (rows["step"] == "E6") & (rows["tested on"] == "benchmark")
    text = render.readable(rows[is_shipped | is_before])
    return text[["step", "tested on", "average", "ours", "n", "note"]]


def _presence(file: Path) -> dict[str, Any]:
    """What the pack records of the network that names manifestations."""
    about = shipped.read(file)[presence.PART].about
    rows, beyond = pd.DataFrame(about["quality"]).T, about.get("elsewhere")
    table = pd.DataFrame({"manifestation": [*map(name_of, rows.index)]}, rows.index)
    table["slices that show it"] = rows["present"].astype(int)
    table["slices called"] = rows["called"].astype(int)
    table["area under the ROC curve"] = [_auc(row) for row in about["quality"].values()]
    if beyond:
        table["called elsewhere"] = pd.Series(beyond["called"])
    return {
        "side": about["preprocessing"]["size"],
        "slices": about["slices"],
        "groups": about["groups"],
        "presence": render.markdown(table),
        "caution": about["caution"] and f"**{about['caution']}**",
        "elsewhere": ELSEWHERE.format(**beyond) if beyond else "",
    }


def _auc(row: dict[str, Any]) -> str:
    """Area under the ROC curve with its limits, as far as there are any."""
    if row["auc"] is None:
        return "all slices agree"
    limits = "" if row["auc_low"] is None else f" [{row['auc_low']:.2f}, {row['auc_high']:.2f}]"
    return f"{row['auc']:.2f}{limits}"
