"""The stages before outlines: what a case is recognised as, and which manifestations it shows.

Their networks are asked about the same slices as the one that outlines, so that each slice is read,
and its lung field found, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from covid_read import doubts
from covid_read.cases import Batch, Case
from covid_read.extent import Outline
from covid_utils.registry import MANIFESTATIONS

#: All stages, in the order of the paper.
RECOGNISE, NAME, OUTLINE = STAGES = (1, 2, 3)
#: From slices to the probability that each shows each of `MANIFESTATIONS`, (n, 3).
Present = Callable[[Batch], np.ndarray]
#: From slices to how unlike each slice is, integers (n,): 0 is like those that it learned from,
#: 1 unlike, 2 so unlike that an outline says nothing; and which look like an X-ray, bool (n,).
Levels = Callable[[Batch], tuple[np.ndarray, np.ndarray]]
#: A manifestation is called from this probability on: it is then more likely there than not.
CALLED = 0.5
#: Slices of a volume that are recognised at most, evenly spread over those with a lung field.
RECOGNISED = 16


@dataclass(frozen=True)
class Recognition:
    """The networks that recognise.

    Attributes:
        tasks: Name -> ``modality``, ``classes`` in order, and ``answers_from``, the least
            probability of an answer; None if there is none.
        probabilities: From slices, uint8 (n, height, width), and their modality to those of each
            of its tasks, (n, classes).
    """

    tasks: Mapping[str, Mapping[str, Any]]
    probabilities: Callable[[np.ndarray, str], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Stages:
    """What is asked. In place of a network stands why it is not there; '' if it is not wanted.

    ``levels`` is None if the model does not know how unlike slices are.
    """

    recognition: Recognition | str = ""
    presence: Present | str = ""
    outlines: bool = True
    levels: Levels | None = None


class Questions:
    """An `Outline` that asks the networks of the other stages about the same slices."""

    def __init__(self, case: Case, outline: Outline, stages: Stages):
        self._case, self._outline, self._stages = case, outline, stages
        self._present: list[np.ndarray] = []
        self._recognised: list[Mapping[str, np.ndarray]] = []
        self._step = math.ceil(case.shape[0] / RECOGNISED)
        self._seen = 0  # slices of earlier batches
        self._counts, self._xrays = np.zeros(3, np.int64), 0

    def __call__(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Labels and their probability; all is background if no outlines are wanted."""
        if self._stages.levels:
            levels, is_xray = self._stages.levels(batch)
            self._counts += np.bincount(levels, minlength=3)
            about = zip(is_xray, batch.slices, batch.scales, strict=True)
            self._xrays += sum(doubts.may_be_xray(each, at) for like, each, at in about if like)
        if callable(self._stages.presence):
            self._present.append(self._stages.presence(batch))
        first = -self._seen % self._step  # every so many slices, counted on from batch to batch
        self._recognise(batch.slices[first :: self._step], "CT")
        self._seen += len(batch.slices)
        if self._stages.outlines:
            return self._outline(batch)
        return np.zeros(batch.slices.shape, np.uint8), np.ones(batch.slices.shape, np.float32)

    def _recognise(self, slices: np.ndarray, modality: str) -> None:
        if len(slices) and isinstance(self._stages.recognition, Recognition):
            self._recognised.append(self._stages.recognition.probabilities(slices, modality))

    @property
    def why_not(self) -> str:
        """Why nothing may be said of the slices; '' if there is no reason."""
        half = self._counts.sum() / 2
        if self._xrays > half:
            return doubts.XRAY
        return doubts.STRANGE if self._counts[2] > half else ""

    @property
    def warnings(self) -> list[str]:
        """What a reader of the answers must know."""
        asked, unlike = self._counts.sum(), self._counts[1:].sum()
        said = (
            f"{unlike} of {asked} slices are unlike those that the network learned from; "
            "trust what is said about them less."
        )
        return [said] if unlike else []

    def record(self, why: str | None) -> dict[str, Any]:
        """What ``case.json`` says of both stages; ``why`` nothing may be said of slices, if so."""
        modality, wanted = self._case.modality, self._stages
        if modality == "X-ray":
            self._recognise(self._case.slices(0, 1), modality)
        elif why:
            self._present, self._recognised = [], []
        found = self._recognition() if any(self._recognised) else None
        presence = self._presence() if self._present else None
        untrained = f"Not recognised: no head for {modality} was trained."
        return {
            "recognition": found,
            "why_not_recognised": _reason(found, wanted.recognition, why or untrained),
            "presence": presence,
            "why_not_named": _reason(presence, wanted.presence, why),
        }

    def _recognition(self) -> dict[str, dict[str, Any]]:
        """Of each task the mean over slices, and the class if that is sure enough."""
        rows = {}
        for name in self._recognised[0]:
            about = self._stages.recognition.tasks[name]
            each = np.concatenate([part[name] for part in self._recognised])
            mean, least = each.mean(axis=0), about["answers_from"]
            is_sure = least is not None and mean.max() >= least
            rows[name] = {
                "slices": len(each),
                "probabilities": dict(zip(about["classes"], mean.tolist(), strict=True)),
                "answers_from": least,
                "answer": about["classes"][int(mean.argmax())] if is_sure else None,
            }
        return rows

    def _presence(self) -> dict[str, dict[str, Any]]:
        each = np.concatenate(self._present)
        return {
            name: {
                "probability": float(chance.mean()),
                "highest": float(chance.max()),
                "slices_called": int((chance >= CALLED).sum()),
            }
            for name, chance in zip(MANIFESTATIONS, each.T, strict=True)
        }


def _reason(said: Any, network: Any, otherwise: str | None) -> str | None:
    """Why a stage says nothing; None if it says something or was not wanted."""
    if said:
        return None
    return (network or None) if isinstance(network, str) else otherwise
