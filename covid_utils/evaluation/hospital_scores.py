"""Scores on slices of other hospitals, step by step (`registry.STEPS`), beside the benchmark's.

``protocol`` is the step, and ``start`` tells the networks apart: those of the benchmark, and from
`registry.TRAINED` on those that start from random weights. ``subset`` is ``test``, the benchmark's
slices; ``external``, those of other hospitals; the same ``, chosen on``, of the volumes on which
settings were chosen; or a single volume, such as ``external v11``. A ``dice difference`` is that of
a step to the one before it, on the same slices. Limits come from drawing whole volumes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from covid_utils import paths, registry, runs
from covid_utils.data.manifest import left_out
from covid_utils.evaluation import intervals, stream_scores

#: What is told of each step.
MEASURES = ("dice", "iou", "false alarms")
#: Volumes -> how many of 100 limits from so few hold the true value, rather than 95. Found by
#: simulation: 1,500 times 20 slices of each volume, the volumes' means normal or gamma distributed.
HELD = {3: 75, 4: 87, 5: 90}


def hospitals(profile: str) -> Iterator[dict]:
    """Rows of `scores.COLUMNS` of every step and network, if the run was made."""
    there = (paths.results(profile) / registry.HOSPITALS / "predictions.parquet").is_file()
    if not there or registry.HOSPITALS in left_out(profile):
        return
    # Volumes that settings were chosen on are named as they end in ``patient_id``, with commas.
    chosen = runs.read_provenance(profile, registry.HOSPITALS)["parameters"]["chosen_on"]
    volumes = tuple(name.strip() for name in chosen.split(",") if name.strip())
    split = runs.read_provenance(profile, "data")["parameters"]["split"]
    pixels = runs.read_predictions(profile, registry.HOSPITALS)
    pixels = pixels[pixels["class"].isin(("lesion", registry.LUNG_FIELD))]
    is_chosen = pixels["subset"].eq(registry.EXTERNAL) & pixels["patient_id"].str.endswith(volumes)
    pixels = pixels.assign(subset=pixels["subset"].mask(is_chosen, registry.CHOSEN_ON))
    for names, part in pixels.groupby(["network", "class", "subset"], sort=False):
        network, _, subset = names
        keys = {"run": registry.HOSPITALS, "task": "stream all", "model": "deeplab"}
        keys |= {"subset": subset, "split": split if subset == "test" else registry.EXTERNAL}
        yield from _steps(part, keys, registry.HOSPITAL_NETWORKS[network])


def _steps(part: pd.DataFrame, keys: dict, start: str) -> Iterator[dict]:
    """Scores of one class, network and subset, and the difference that each step makes.

    ``start`` is that of the network of the benchmark.
    """
    before, last = None, ""
    for step in registry.STEPS:
        now = part[part["step"] == step].sort_values("image_id", kind="stable")
        if now.empty:
            continue
        own = keys | {"protocol": step, "start": start if step < registry.TRAINED else "random"}
        yield from _scores(now, own)
        if keys["subset"] != "test":
            # Of a single volume nothing can be resampled, so there are no limits.
            for volume, slices in now.groupby("patient_id"):
                name = f"{registry.EXTERNAL} {volume.rpartition('/')[2]}"
                yield from _scores(slices, own | {"subset": name}, ("dice",))
        if before is not None:
            same = now[now["image_id"].isin(before["image_id"])]
            gaps = stream_scores.compare(same, before).to_dict("records")
            yield from (gap | own | {"note": f"{step} minus {last}"} for gap in gaps)
        before, last = now, step


def _scores(part: pd.DataFrame, keys: dict, measures: tuple[str, ...] = MEASURES) -> Iterator[dict]:
    scored = stream_scores.segmentation(part)
    for line in scored[scored["metric"].isin(measures)].to_dict("records"):
        volumes, note = line["patients"], ""
        if keys["subset"] != "test" and np.isfinite(line["low"]):
            note = f"limits rest on {volumes} volumes"
            if volumes in HELD:
                note += f", and contain the true value in {HELD[volumes]} of 100 simulations"
        yield line | keys | {"note": note}


def shares_called(predictions: pd.DataFrame) -> pd.DataFrame:
    """Share of slices that networks call diseased, of those that should be called and of others.

    ``predictions`` are of `neighbours.called`. For each ``network``, ``prepared``, ``tested on``
    and ``should be called``: ``slices``, ``patients`` (volumes), and the share with its limits, by
    patient, ``called``, ``low`` and ``high``, all from 0 to 1.
    """
    lines, keys = [], ["network", "prepared", "tested on", "should be called"]
    table = predictions.rename(columns={"subset": "tested on", "truth": "should be called"})
    for names, part in table.groupby(keys, sort=False):
        groups = part["patient_id"].to_numpy()
        share = intervals.wilson_by_patient(part["called"].to_numpy(), np.ones(len(part)), groups)
        line = dict(zip(keys, names, strict=True)) | {"slices": share.n}
        line |= {"patients": len(np.unique(groups)), "called": share.value}
        lines.append(line | {"low": share.low, "high": share.high})
    return pd.DataFrame(lines)
