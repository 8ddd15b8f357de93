"""The X-ray sets in their published layouts."""

from __future__ import annotations

from chest_phantom import files
from chest_phantom.cohort import Person, name_of, uid
from chest_phantom.ct_sets import paper_figure
from chest_phantom.disease import Volume
from chest_phantom.job import Job, spread, views
from chest_phantom.projection import sample_exposure
from chest_phantom.settings import LICENCE
from chest_phantom.xray import opacity_boxes

METADATA_HEADER = (
    "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,"
    "needed_supplemental_O2,extubated,temperature,pO2_saturation,leukocyte_count,"
    "neutrophil_count,lymphocyte_count,view,modality,date,location,folder,filename,doi,url,"
    "license,clinical_notes,other_notes"
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
CR_IMAGE = "1.2.840.10008.5.1.4.1.1.1"


def covid_collection(job: Job) -> Volume:
    """The COVID-19 Image Data Collection; returns the first visit."""
    person = job.person
    rng = person.generator("collection")
    count = int(rng.choice((1, 2, 3, 3, 3, 3)))
    first = job.state()
    day = 0
    for visit, view in enumerate(views(rng, count)):
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
        image = paper_figure(job, volume, spread(volume, 3)[1])
    else:
        image = job.xray(volume, view, name)
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


def chest_xray(job: Job) -> Volume:
    """The ``train|test / NORMAL|PNEUMONIA`` set; every fourth patient is a test case."""
    person = job.person
    rng = person.generator("chest_xray")
    subset = "test" if person.rank % 4 == 1 else "train"
    count = int(rng.integers(5, 7)) if person.pattern == "normal" else 4
    first = volume = job.state()
    for visit, view in enumerate(views(rng, count)):
        if person.pattern != "normal" and visit == 2:
            volume = job.state(visit)
        name = _chest_name(person, subset, visit)
        kind = "NORMAL" if person.pattern == "normal" else "PNEUMONIA"
        path = f"chest_xray/{subset}/{kind}/{name}.jpeg"
        files.save_raster(job.root / path, job.xray(volume, view, name))
        job.record(path, volume)
    return first


def _chest_name(person: Person, subset: str, visit: int) -> str:
    if person.pattern == "normal":
        series = "NORMAL2-IM" if subset == "test" and person.rank % 8 == 1 else "IM"
        again = f"-{visit:04d}" if visit else ""
        return f"{series}-{person.number:04d}-0001{again}"
    cause = "virus" if person.pattern == "viral" else "bacteria"
    return f"person{person.number}_{cause}_{10 * person.number + visit}"


def nih(job: Job) -> Volume:
    """Adult X-rays named after patient and image."""
    person = job.person
    volume = job.state()
    folder = "No_findings" if person.pattern == "normal" else "Pneumonia"
    for visit, view in enumerate(views(person.generator("nih"), 3)):
        name = f"{person.number:08d}_{visit:03d}.jpg"
        path = f"nih-adult/{folder}/{name}"
        files.save_raster(job.root / path, job.xray(volume, view, name))
        job.record(path, volume)
    return volume


def rsna(job: Job) -> Volume:
    """One X-ray in DICOM with the boxes around its opacities."""
    person = job.person
    name = name_of(job.settings, "rsna", person.number)
    rng = person.generator("rsna")
    view = "PA" if rng.random() < 0.5 else "AP"
    volume = job.state()
    path = f"rsna/stage_2_train_images/{name}.dcm"
    # What `Job.xray` draws for this name too.
    exposure = sample_exposure(person.generator(name), view)
    files.save_dicom(
        job.root / path,
        job.xray(volume, view, name),
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
        boxes = opacity_boxes(volume, exposure, job.settings.xray_size)
    for x, y, width, height in boxes or [("", "", "", "")]:
        box = {"x": x, "y": y, "width": width, "height": height}
        job.notes.boxes.append({"patientId": name, **box, "Target": int(bool(boxes))})
        job.notes.classes.append({"patientId": name, "class": kind})
    return volume
