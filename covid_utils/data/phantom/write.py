"""The phantom on disk, in the layouts of the real data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from covid_utils import runs
from covid_utils.data.images import to_uint8
from covid_utils.data.phantom import files, imaging
from covid_utils.data.phantom.anatomy import Anatomy, build
from covid_utils.data.phantom.cohort import VERSION, Person, PhantomSettings, name_of, plan, uid
from covid_utils.data.phantom.disease import NODULE, Volume, infect

SETTINGS_FILE = "phantom.json"
TRUTH_FILE = "phantom_truth.csv"
README = """Phantom chest scans.

Nothing here shows a person: every image was computed by covid_utils.data.phantom from random
numbers (settings in phantom.json, what each image shows in phantom_truth.csv). The folders have the
layouts of the real data sets, so that the same readers read them; they contain nothing of those
sets. The images teach how the pipeline works. They say nothing about patients.

Licence: CC0 1.0, no rights reserved.
"""
LICENCE = "CC0 1.0 (phantom)"
METADATA_COLUMNS = (
    "patientid",
    "offset",
    "sex",
    "age",
    "finding",
    "survival",
    "intubated",
    "intubation_present",
    "went_icu",
    "in_icu",
    "needed_supplemental_O2",
    "extubated",
    "temperature",
    "pO2_saturation",
    "leukocyte_count",
    "neutrophil_count",
    "lymphocyte_count",
    "view",
    "modality",
    "date",
    "location",
    "folder",
    "filename",
    "doi",
    "url",
    "license",
    "clinical_notes",
    "other_notes",
)
FINDINGS = {
    "covid": "COVID-19",
    "viral": "SARS",
    "bacterial": "Streptococcus",
    "normal": "No Finding",
}
RSNA_CLASSES = {
    "covid": "Lung Opacity",
    "bacterial": "Lung Opacity",
    "normal": "Normal",
    "nodule": "No Lung Opacity / Not Normal",
}
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"
#: Share of the COVID-19 patients with slices in the segmentation set, and slices of each.
MEDSEG_SHARE, MEDSEG_SLICES = 0.91, 3
#: One in so many normal chests also gets nodules for LIDC-IDRI; slices of each scan.
LIDC_EVERY, LIDC_SLICES = 2, 9
LUNA_SLICES = 20


@dataclass
class Notes:
    """Lines for the tables, and slices for the volume, that one patient leaves."""

    truth: list[dict] = field(default_factory=list)
    metadata: list[dict] = field(default_factory=list)
    boxes: list[dict] = field(default_factory=list)
    classes: list[dict] = field(default_factory=list)
    nodules: list[dict] = field(default_factory=list)
    slices: list[tuple[str, np.ndarray, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One patient's chest on its way to disk."""

    root: Path
    settings: PhantomSettings
    person: Person
    chest: Anatomy
    notes: Notes

    def state(self, visit: int = 0) -> Volume:
        """The chest at a visit: the same lesions, a bit larger or smaller."""
        person = self.person
        drift = person.generator(f"visit {visit}").normal(0, 0.12) if visit else 0.0
        severity = float(np.clip(person.severity + drift, 0.05, 1))
        return infect(self.chest, person.pattern, severity, person.seed)

    def take_xray(self, volume: Volume, view: str, purpose: str) -> np.ndarray:
        """An X-ray with its own pose, exposure and noise."""
        rng = self.person.generator(purpose)
        return imaging.xray(
            volume,
            imaging.sample_exposure(rng, view),
            self.settings.xray_size,
            int(rng.integers(2**31)),
            self.person.hospital,
            self.settings.hospital_mark,
        )

    def record(self, path: str, volume: Volume, frame: int = 0) -> None:
        """Note what an image shows."""
        person = self.person
        self.notes.truth.append(
            {
                "path": path,
                "frame": frame,
                "person": person.number,
                "pattern": volume.pattern,
                "severity": round(volume.severity, 3),
                "hospital": person.hospital,
            }
        )


def write_all(root: Path, settings: PhantomSettings) -> None:
    """Write the whole data set into an empty or missing folder.

    Args:
        root: The folder.
        settings: What to make.
    """
    root.mkdir(parents=True, exist_ok=True)
    people = plan(settings)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        notes = list(pool.map(lambda person: _patient(root, settings, person), people))
    _write_tables(root, notes)
    _write_medseg(root, [part for note in notes for part in note.slices])
    (root / "README.txt").write_text(README, encoding="utf-8", newline="\n")
    content = json.dumps(recipe(settings), indent=1)
    (root / SETTINGS_FILE).write_text(content + "\n", encoding="utf-8")


def recipe(settings: PhantomSettings) -> dict:
    """What a phantom is made from: version, code and settings; another recipe, another phantom."""
    code = runs.code_hash("data/phantom")
    return {"version": VERSION, "code": code, "settings": asdict(settings)}


def _patient(root: Path, settings: PhantomSettings, person: Person) -> Notes:
    chest = build(np.random.default_rng(person.seed), settings.ct_size)
    job = Job(root, settings, person, chest, Notes())
    writers: dict[str, Callable[[Job], Volume]] = {
        "covid": _collection,
        "other": _collection,
        "chest": _chest_xray,
        "nih": _nih,
        "rsna": _rsna,
    }
    volume = writers[person.role](job)
    if volume.pattern == "covid":
        _medseg(job, volume)
    if person.role != "rsna":
        _covid_ct(job, volume)
    if person.role == "chest" and person.pattern == "normal":
        _nodules(job)
    return job.notes


def _views(rng: np.random.Generator, count: int) -> list[str]:
    """Views of a patient's X-rays: standing patients stay PA, the others stay in bed."""
    if rng.random() < 0.5:
        return ["PA"] * count
    return ["AP Supine" if rng.random() < 0.4 else "AP" for _ in range(count)]


def _collection(job: Job) -> Volume:
    """Rows and images of the COVID-19 Image Data Collection; the first visit is returned."""
    person = job.person
    rng = person.generator("collection")
    count = int(rng.choice((1, 2, 3, 3, 3, 3)))
    first = volume = job.state()
    day = 0
    for visit, view in enumerate(_views(rng, count)):
        volume = job.state(visit) if visit else first
        _add_row(job, volume, view, day)
        day += int(rng.integers(2, 7))
    if person.role == "covid" and person.rank == 0:
        _add_row(job, first, "L", 0)
    if person.role == "covid" and person.rank == 1:
        _add_row(job, first, "Axial", 0)
    return first


def _add_row(job: Job, volume: Volume, view: str, day: int) -> None:
    person = job.person
    name = f"phantom-{volume.pattern}-{person.number:03d}-day{day}-{view.replace(' ', '-')}"
    name += ".png" if view == "Axial" else ".jpg"
    path = f"covid-chestxray-dataset/images/{name}"
    if view == "Axial":
        image = _figure(job, volume, _spread(volume, 3)[1])
    else:
        image = job.take_xray(volume, view, name)
    files.save_raster(job.root / path, image)
    job.record(path, volume)
    body = job.chest.habitus
    job.notes.metadata.append(
        {
            "patientid": str(person.number),
            "offset": str(day),
            "sex": "F" if body.female else "M",
            "age": str(body.age),
            "finding": FINDINGS[volume.pattern],
            "view": view,
            "modality": "CT" if view == "Axial" else "X-ray",
            "date": "2020",
            "location": f"Phantom Hospital {person.hospital.title()}",
            "folder": "images",
            "filename": name,
            "license": LICENCE,
            "clinical_notes": f"Phantom, computed; extent of disease {volume.severity:.2f}",
        }
    )


def _chest_xray(job: Job) -> Volume:
    """Images of the ``train|test / NORMAL|PNEUMONIA`` set; every fourth patient is a test case."""
    person = job.person
    rng = person.generator("chest_xray")
    subset = "test" if person.rank % 4 == 1 else "train"
    count = int(rng.integers(5, 7)) if person.pattern == "normal" else 4
    first = volume = job.state()
    for visit, view in enumerate(_views(rng, count)):
        if person.pattern != "normal" and visit == 2:
            volume = job.state(visit)
        name = _chest_name(person, subset, visit)
        kind = "NORMAL" if person.pattern == "normal" else "PNEUMONIA"
        path = f"chest_xray/{subset}/{kind}/{name}.jpeg"
        files.save_raster(job.root / path, job.take_xray(volume, view, name))
        job.record(path, volume)
    return first


def _chest_name(person: Person, subset: str, visit: int) -> str:
    if person.pattern == "normal":
        series = "NORMAL2-IM" if subset == "test" and person.rank % 8 == 1 else "IM"
        again = f"-{visit:04d}" if visit else ""
        return f"{series}-{person.number:04d}-0001{again}"
    cause = "virus" if person.pattern == "viral" else "bacteria"
    return f"person{person.number}_{cause}_{10 * person.number + visit}"


def _nih(job: Job) -> Volume:
    """Adult X-rays named after patient and image."""
    person = job.person
    volume = job.state()
    folder = "No_findings" if person.pattern == "normal" else "Pneumonia"
    for visit, view in enumerate(_views(person.generator("nih"), 3)):
        name = f"{person.number:08d}_{visit:03d}.jpg"
        path = f"nih-adult/{folder}/{name}"
        files.save_raster(job.root / path, job.take_xray(volume, view, name))
        job.record(path, volume)
    return volume


def _rsna(job: Job) -> Volume:
    """One X-ray in DICOM with the boxes around its opacities."""
    person = job.person
    name = name_of(job.settings, "rsna", person.number)
    rng = person.generator("rsna")
    view = "PA" if rng.random() < 0.5 else "AP"
    volume = job.state()
    path = f"rsna/stage_2_train_images/{name}.dcm"
    exposure = imaging.sample_exposure(person.generator(name), view)
    files.save_dicom(
        job.root / path,
        job.take_xray(volume, view, name),
        CR_IMAGE,
        uid(job.settings, name, "image"),
        Modality="CR",
        PatientID=name,
        PatientSex="F" if job.chest.habitus.female else "M",
        PatientAge=f"{job.chest.habitus.age:03d}Y",
        ViewPosition=view,
        StudyInstanceUID=uid(job.settings, name, "study"),
        SeriesInstanceUID=uid(job.settings, name, "series"),
    )
    job.record(path, volume)
    kind = RSNA_CLASSES[person.pattern]
    boxes = []
    if kind == "Lung Opacity":
        boxes = imaging.opacity_boxes(volume, exposure, job.settings.xray_size)
    places = ("x", "y", "width", "height")
    for box in boxes or [("", "", "", "")]:
        row = {"patientId": name, **dict(zip(places, box, strict=True)), "Target": int(bool(boxes))}
        job.notes.boxes.append(row)
        job.notes.classes.append({"patientId": name, "class": kind})
    return volume


def _spread(volume: Volume, count: int) -> list[int]:
    """Slices spread over the disease, or over the lungs where there is none."""
    weight = (volume.labels > 0).sum(axis=(1, 2)).astype(float)
    usable = imaging.lung_slices(volume)
    inside = np.zeros(len(weight))
    inside[usable] = 1 + weight[usable]
    places = np.cumsum(inside) / inside.sum()
    return [int(np.searchsorted(places, (k + 0.5) / count)) for k in range(count)]


def _figure(job: Job, volume: Volume, index: int) -> np.ndarray:
    """A CT slice as a paper's figure shows it: windowed, cut to the body, enlarged."""
    rng = job.person.generator(f"figure {index}")
    hu, _ = imaging.ct_slice(volume, index, job.person.number)
    low, high = -1350 + rng.uniform(-60, 120), 150 + rng.uniform(-60, 120)
    gray = to_uint8(hu, low, high)
    rows, columns = (np.flatnonzero((hu > -300).any(axis=axis)) for axis in (1, 0))
    margin = rng.integers(0, 7, 4)
    top, left = max(0, rows[0] - margin[0]), max(0, columns[0] - margin[1])
    gray = gray[top : rows[-1] + margin[2], left : columns[-1] + margin[3]]
    scale = rng.uniform(1.3, 1.9)
    return cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def _covid_ct(job: Job, volume: Volume) -> None:
    """Slices as figures of papers, one paper a patient."""
    person = job.person
    positive = volume.pattern == "covid"
    count = 1 + person.rank % 2 if positive else 1 + (person.number % 8 == 0)
    if positive and person.rank % 5 == 0:
        count += 1
    slices = _spread(volume, count)
    for panel, index in enumerate(slices):
        if positive:
            name = f"CT_COVID/2020.03.01.phantom{person.number:03d}-p{4 + panel}-{20 + panel}%0.png"
        elif count > 1:
            name = f"CT_NonCOVID/{person.number}%{panel}.jpg"
        else:
            name = f"CT_NonCOVID/{person.number}.{'png' if person.number % 2 else 'jpg'}"
        path = f"COVID-CT/{name}"
        files.save_raster(job.root / path, _figure(job, volume, index))
        job.record(path, volume)


def _medseg(job: Job, volume: Volume) -> None:
    """Slices for the segmentation set; `_write_medseg` puts them into one file."""
    person = job.person
    if person.role != "covid" or (person.rank + 0.5) * MEDSEG_SHARE % 1 >= MEDSEG_SHARE:
        return
    for index in _spread(volume, MEDSEG_SLICES):
        hu, labels = imaging.ct_slice(volume, index, person.number)
        job.notes.slices.append((f"P{person.number:02d}", hu, labels))


def _write_medseg(root: Path, slices: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    images = np.stack([hu.T for _, hu, _ in slices], axis=-1)
    masks = np.stack([labels.T for _, _, labels in slices], axis=-1)
    files.save_nifti(root / "medseg" / "tr_im.nii.gz", images)
    files.save_nifti(root / "medseg" / "tr_mask.nii.gz", masks)
    patients = sorted({patient for patient, _, _ in slices})
    train = set(patients[::2])
    rows = [
        {
            "slice": number,
            "labels": "exact",
            "infnet_subset": "train" if patient in train else "test",
            "ggo_px": int((labels == 1).sum()),
            "consolidation_px": int((labels == 2).sum()),
            "effusion_px": int((labels == 3).sum()),
            "patient": patient,
        }
        for number, (patient, _, labels) in enumerate(slices)
    ]
    files.save_table(root / "medseg" / "slices.csv", pd.DataFrame(rows))


def _nodules(job: Job) -> None:
    """Nodules in a normal chest: a scan of LIDC-IDRI, or for one patient of LUNA16."""
    person = job.person
    severity = float(person.generator("nodules").uniform(0.1, 1))
    if person.rank == 1:
        _luna(job, infect(job.chest, "nodule", severity, person.seed))
    elif person.rank % LIDC_EVERY == 0:
        _lidc(job, infect(job.chest, "nodule", severity, person.seed))


def _lidc(job: Job, volume: Volume) -> None:
    """Slices around a nodule with the outlines of four readers."""
    patient = f"LIDC-IDRI-{job.person.rank // LIDC_EVERY + 1:04d}"
    folder = f"lidc-idri/{patient}"
    study, series = (uid(job.settings, patient, kind) for kind in ("study", "series"))
    rng = job.person.generator("lidc")
    start = int(volume.nodules[0][0]) - int(rng.integers(2, LIDC_SLICES - 2))
    start = int(np.clip(start, 0, len(volume.hu) - LIDC_SLICES))
    readers: list[list] = [[] for _ in range(4)]
    for index in range(start, start + LIDC_SLICES):
        path = f"{folder}/1-{index:03d}.dcm"
        sop_uid = uid(job.settings, patient, index)
        _save_ct(job, volume, index, job.root / path, patient, (study, series, sop_uid))
        job.record(path, volume)
        position = index * volume.spacing[0]
        for rows, mask in zip(readers, _readings(rng, volume, index), strict=True):
            rows += [(position, sop_uid, outline) for outline in files.outlines(mask)]
    files.save_readings(job.root / folder / "001.xml", study, series, readers)


def _readings(rng: np.random.Generator, volume: Volume, index: int) -> list[np.ndarray]:
    """How four readers see the nodules on a slice: the truth, give or take a part of a pixel."""
    truth = (volume.labels[index] == NODULE).astype(np.float32)
    if not truth.any():
        return [truth > 0] * 4
    soft = cv2.GaussianBlur(truth, (0, 0), 0.6)
    return [soft > level for level in 0.5 + rng.uniform(-0.16, 0.16, 4)]


def _save_ct(
    job: Job, volume: Volume, index: int, path: Path, patient: str, uids: tuple[str, str, str]
) -> None:
    hu, _ = imaging.ct_slice(volume, index, job.person.number)
    tall, pixel, _ = volume.spacing
    corner = (pixel - pixel * len(hu)) / 2
    files.save_dicom(
        path,
        hu + np.int16(1024),
        CT_IMAGE,
        uids[2],
        Modality="CT",
        PatientID=patient,
        StudyInstanceUID=uids[0],
        SeriesInstanceUID=uids[1],
        InstanceNumber=index,
        SliceThickness=f"{tall:.3f}",
        PixelSpacing=[f"{pixel:.5f}", f"{pixel:.5f}"],
        ImagePositionPatient=[f"{corner:.4f}", f"{corner:.4f}", f"{index * tall:.3f}"],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        SliceLocation=f"{index * tall:.3f}",
        RescaleIntercept="-1024",
        RescaleSlope="1",
        WindowCenter="-600",
        WindowWidth="1500",
    )


def _luna(job: Job, volume: Volume) -> None:
    """A scan with the places of its nodules."""
    series = uid(job.settings, "luna16", job.person.number)
    middle = int(volume.nodules[0][0])
    start = int(np.clip(middle - LUNA_SLICES // 2, 0, len(volume.hu) - LUNA_SLICES))
    hu = [
        imaging.ct_slice(volume, index, job.person.number)[0]
        for index in range(start, start + LUNA_SLICES)
    ]
    spacing = np.array(volume.spacing)
    origin = np.array([start * spacing[0], *(-spacing[1:] * (volume.hu.shape[1] - 1) / 2)])
    path = f"luna16/{series}.mhd"
    files.save_metaimage(job.root / path, np.stack(hu), spacing[::-1], origin[::-1])
    job.record(path, volume)
    for nodule in volume.nodules:
        if start <= nodule[0] < start + LUNA_SLICES:
            world = origin + (np.array(nodule[:3]) - (start, 0, 0)) * spacing
            z, y, x = (round(float(value), 3) for value in world)
            row = {"seriesuid": series, "coordX": x, "coordY": y, "coordZ": z}
            job.notes.nodules.append(row | {"diameter_mm": round(2 * nodule[3], 2)})


def _write_tables(root: Path, notes: list[Notes]) -> None:
    """Write every table that gathers lines from all patients."""

    def gather(name: str) -> pd.DataFrame:
        return pd.DataFrame([row for note in notes for row in getattr(note, name)])

    metadata = gather("metadata").reindex(columns=list(METADATA_COLUMNS)).fillna("")
    # The published file has a last column without name or content.
    metadata[""] = ""
    files.save_table(root / "covid-chestxray-dataset" / "metadata.csv", metadata)
    files.save_table(root / "rsna" / "stage_2_train_labels.csv", gather("boxes"))
    files.save_table(root / "rsna" / "stage_2_detailed_class_info.csv", gather("classes"))
    files.save_table(root / "luna16" / "annotations.csv", gather("nodules"))
    truth = gather("truth").sort_values(["path", "frame"], kind="stable")
    files.save_table(root / TRUTH_FILE, truth)
