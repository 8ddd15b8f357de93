"""The CT sets in their published layouts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from chest_phantom import files
from chest_phantom.cohort import uid
from chest_phantom.ct import ct_slice, to_uint8
from chest_phantom.disease import Volume, infect
from chest_phantom.job import Job, spread
from chest_phantom.settings import CONSOLIDATION, EFFUSION, GROUND_GLASS, NODULE

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
#: Share of the COVID-19 patients with slices in the segmentation set, and slices of each.
MEDSEG_SHARE, MEDSEG_SLICES = 0.91, 3
#: One in this many normal chests also gets nodules for LIDC-IDRI; slices of each scan.
LIDC_EVERY, LIDC_SLICES = 2, 9
LUNA_SLICES = 20


def paper_figure(job: Job, volume: Volume, index: int) -> np.ndarray:
    """A CT slice as a paper's figure shows it: windowed, cropped to the body, enlarged."""
    rng = job.person.generator(f"figure {index}")
    hu, _ = ct_slice(volume, index, job.person.number)
    # About the usual lung window.
    low, high = -1350 + rng.uniform(-60, 120), 150 + rng.uniform(-60, 120)
    gray = to_uint8(hu, low, high)
    body = hu > -300
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    margin = rng.integers(0, 7, 4)
    top, left = max(0, rows[0] - margin[0]), max(0, columns[0] - margin[1])
    gray = gray[top : rows[-1] + margin[2], left : columns[-1] + margin[3]]
    scale = rng.uniform(1.3, 1.9)
    return cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def covid_ct(job: Job, volume: Volume) -> None:
    """Slices as figures of papers, one paper per patient."""
    person = job.person
    positive = volume.pattern == "covid"
    count = 1
    if positive:
        count += person.rank % 2
        count += person.rank % 5 == 0
    elif person.number % 8 == 0:
        count = 2
    slices = spread(volume, count)
    for panel, index in enumerate(slices):
        if positive:
            name = f"CT_COVID/2020.03.01.phantom{person.number:03d}-p{4 + panel}-{20 + panel}%0.png"
        elif count > 1:
            name = f"CT_NonCOVID/{person.number}%{panel}.jpg"
        else:
            name = f"CT_NonCOVID/{person.number}.{'png' if person.number % 2 else 'jpg'}"
        path = f"COVID-CT/{name}"
        files.save_raster(job.root / path, paper_figure(job, volume, index))
        job.record(path, volume)


def medseg(job: Job, volume: Volume) -> None:
    """Slices for the segmentation set; `write_medseg` puts them into one file."""
    person = job.person
    # Leaves out some ranks at even distances.
    is_chosen = (person.rank + 0.5) * MEDSEG_SHARE % 1 < MEDSEG_SHARE
    if person.role != "covid" or not is_chosen:
        return
    for index in spread(volume, MEDSEG_SLICES):
        hu, labels = ct_slice(volume, index, person.number)
        job.notes.slices.append((f"P{person.number:02d}", hu, labels))


def write_medseg(root: Path, slices: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Write the slices (patient, HU, labels) of all patients as two volumes and their table."""
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
            "ggo_px": int((labels == GROUND_GLASS).sum()),
            "consolidation_px": int((labels == CONSOLIDATION).sum()),
            "effusion_px": int((labels == EFFUSION).sum()),
            "patient": patient,
        }
        for number, (patient, _, labels) in enumerate(slices)
    ]
    files.save_table(root / "medseg" / "slices.csv", pd.DataFrame(rows))


def nodule_scans(job: Job) -> None:
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
    study, series = uid(job.settings, patient, "study"), uid(job.settings, patient, "series")
    identity = {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series}
    rng = job.person.generator("lidc")
    start = int(volume.nodules[0][0]) - int(rng.integers(2, LIDC_SLICES - 2))
    start = int(np.clip(start, 0, len(volume.hu) - LIDC_SLICES))
    readers: list[list] = [[] for _ in range(4)]
    for index in range(start, start + LIDC_SLICES):
        path = f"{folder}/1-{index:03d}.dcm"
        sop_uid = uid(job.settings, patient, index)
        _save_ct(job, volume, index, job.root / path, sop_uid, identity)
        job.record(path, volume)
        position = index * volume.spacing[0]
        for rows, mask in zip(readers, _readings(rng, volume, index), strict=True):
            rows += [(position, sop_uid, outline) for outline in files.outlines(mask)]
    files.save_readings(job.root / folder / "001.xml", study, series, readers)


def _readings(rng: np.random.Generator, volume: Volume, index: int) -> list[np.ndarray]:
    """Masks of four readers: the truth, shifted at its edge by a fraction of a pixel."""
    truth = (volume.labels[index] == NODULE).astype(np.float32)
    if not truth.any():
        return [truth > 0] * 4
    soft = cv2.GaussianBlur(truth, (0, 0), 0.6)
    return [soft > level for level in 0.5 + rng.uniform(-0.16, 0.16, 4)]


def _save_ct(
    job: Job, volume: Volume, index: int, path: Path, sop_uid: str, identity: dict[str, str]
) -> None:
    hu, _ = ct_slice(volume, index, job.person.number)
    tall, pixel, _ = volume.spacing
    corner = (pixel - pixel * len(hu)) / 2
    files.save_dicom(
        path,
        hu + np.int16(1024),
        CT_IMAGE,
        sop_uid,
        **identity,
        Modality="CT",
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
    """A scan, and the centres of its nodules."""
    series = uid(job.settings, "luna16", job.person.number)
    middle = int(volume.nodules[0][0])
    start = int(np.clip(middle - LUNA_SLICES // 2, 0, len(volume.hu) - LUNA_SLICES))
    hu = [
        ct_slice(volume, index, job.person.number)[0] for index in range(start, start + LUNA_SLICES)
    ]
    spacing = np.array(volume.spacing)
    corner = -spacing[1] * (volume.hu.shape[1] - 1) / 2
    origin = np.array([start * spacing[0], corner, corner])
    path = f"luna16/{series}.mhd"
    files.save_metaimage(job.root / path, np.stack(hu), spacing[::-1], origin[::-1])
    job.record(path, volume)
    for nodule in volume.nodules:
        if start <= nodule[0] < start + LUNA_SLICES:
            world = origin + (np.array(nodule[:3]) - (start, 0, 0)) * spacing
            z, y, x = (round(float(value), 3) for value in world)
            row = {"seriesuid": series, "coordX": x, "coordY": y, "coordZ": z}
            job.notes.nodules.append(row | {"diameter_mm": round(2 * nodule[3], 2)})
