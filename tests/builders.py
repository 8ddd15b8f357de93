"""Small synthetic manifests, data folders and prediction tables that several tests share."""

import hashlib
import importlib
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import chest_phantom
from chest_phantom.anatomy import build
from chest_phantom.ct import ct_slice
from chest_phantom.disease import infect
from covid_utils import params, paths, runs
from covid_utils.data import collection
from covid_utils.data import manifest as manifests
from covid_utils.training import streams


@contextmanager
def modules_of(folder, *names):
    """Modules of a folder that is no package, as its own programs import them."""
    place = str(paths.PROJECT / folder)
    sys.path.insert(0, place)
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(place)


SMALL_PHANTOM = chest_phantom.Settings(
    seed=7, patients=chest_phantom.FEWEST, ct_size=72, xray_size=96
)


def manifest(patients, dataset="chest_xray", label="normal", modality="X-ray", **columns):
    """A valid manifest: ``patients`` maps a patient to how many images there are of it."""
    pairs = [(patient, number) for patient, images in patients.items() for number in range(images)]
    content = [f"{dataset} {label} {patient} {number}" for patient, number in pairs]
    files = [f"{dataset}/{label}/{patient}-{number}.png" for patient, number in pairs]
    values = {"image_id": files, "path": files, "sha256": content, "dataset": dataset}
    values["patient_id"] = [f"{dataset}/{patient}" for patient, _ in pairs]
    values["phash"] = [hashlib.sha256(text.encode()).hexdigest() for text in content]
    values |= {"modality": modality, "view": "PA" if modality == "X-ray" else "Axial"}
    values |= {"label": label, "patient_basis": "given", "frame": 0, "width": 8, "height": 8}
    values |= {"label_quality": "none", "licence": "unknown"}
    values |= dict.fromkeys(("mask_path", "mask_sha256", "lungs", "field", "gray"), "")
    return manifests.validate(pd.DataFrame(values | columns, index=range(len(pairs))))


def join(*tables):
    """Several manifests as one."""
    return manifests.validate(pd.concat(tables, ignore_index=True))


def scans_of(rows):
    """A collection of these rows, of which no file is read."""
    return collection.Collection(rows, Path("nowhere"), pd.DataFrame(columns=["problem", "remedy"]))


def conditions_scans():
    """Two images of each patient, by class and source; of four patients one is tested."""
    xrays = dict.fromkeys(("normal", "viral", "bacterial"), "chest_xray")
    parts = [
        manifest({f"{label}{number}": 2 for number in range(12)}, dataset, label)
        for label, dataset in {"covid": "covid-chestxray-dataset", **xrays}.items()
    ]
    for label in ("covid", "non_covid"):
        names = {f"ct-{label}{number}": 2 for number in range(12)}
        parts.append(manifest(names, "covid-ct", label, "CT"))
    parts.append(manifest({f"slice{number}": 2 for number in range(4)}, "medseg", "covid", "CT"))
    parts.append(manifest({f"adult{number}": 2 for number in range(8)}, "nih-adult"))
    rows = join(*parts)
    number = rows["patient_id"].str.extract(r"(\d+)$")[0].astype(int) % 4
    subsets = {0: "test", 1: "validation", 2: "train", 3: "train"}
    return scans_of(rows.assign(subset=number.map(subsets)))


def save_png(path, seed, size=(12, 10)):
    """A random gray image, the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def save_dicom(path, pixels, uid="1.2.3", **tags):
    """A gray DICOM file with 16-bit pixels and any further tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = uid
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, uid
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 1
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.BitsAllocated, header.BitsStored, header.HighBit = 1, 16, 16, 15
    header.PixelData = pixels.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(header, name, value)
    header.save_as(path, enforce_file_format=True)


def adult_xrays(root, patients=5):
    """The layout of ``nih-adult``: one image a patient, all of them normal."""
    for number in range(patients):
        save_png(root / "nih-adult" / "No_findings" / f"{number:04d}_000.png", number)
    return root


def ct_slices(root, slices=6, side=16, effusion=3):
    """The layout of ``medseg``: a square of each label; ``effusion`` is the third one."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (side, side, slices)).astype(np.int16)
    masks = np.zeros((side, side, slices), np.uint8)
    masks[2:6, 2:6, :] = 1
    masks[8:11, 2:5, :] = 2
    masks[8:10, 9:12, ::2] = effusion
    folder = root / "medseg"
    folder.mkdir(parents=True, exist_ok=True)
    for name, voxels in (("tr_im", images), ("tr_mask", masks)):
        image = nibabel.Nifti1Image(voxels, np.eye(4))
        image.to_filename(folder / f"{name}.nii.gz")
    return root


def prepare(root, **changes):
    """The collection of a data folder with the settings of the quick profile, but for changes."""
    return collection.prepare(params.load("quick", "01_data", data_dir=str(root), **changes))


def recognition_sets(root, patients=6):
    """COVID-19 X-rays (front and side) and the three other classes, in the real layouts."""
    folder = root / "covid-chestxray-dataset"
    lines = []
    for number in range(patients):
        for view in ("PA", "L"):
            name = f"covid{number}{view}.png"
            save_png(folder / "images" / name, 336 + 8 * number)  # both views are alike
            lines.append(f"{number},COVID-19,{view},X-ray,images,{name},")
    heading = "patientid,finding,view,modality,folder,filename,license"
    (folder / "metadata.csv").write_text("\n".join([heading, *lines]))
    kermany = root / "chest_xray" / "train"
    for number in range(patients):
        save_png(kermany / "NORMAL" / f"IM-{number:04d}-0001.jpeg", 100 + number)
        for image, cause in enumerate(("virus", "bacteria")):
            name = f"person{number + 100 * image}_{cause}_1.jpeg"
            save_png(kermany / "PNEUMONIA" / name, 200 + 100 * image + number)
    return root


def class_predictions(truth, predicted, patients=None, **columns):
    """A predictions table of a one-class task; every image is its own patient by default."""
    patients = [f"p{i}" for i in range(len(truth))] if patients is None else patients
    values = {"image_id": [f"image{i}" for i in range(len(truth))], "patient_id": patients}
    values |= {"truth": truth, "predicted": predicted}
    return pd.DataFrame(values | columns, dtype=object)


def value(table, **criteria):
    """The one value with these keys."""
    return one(table, **criteria)["value"]


def one(table, **criteria):
    """The one row with these keys."""
    rows = runs.select(table, **criteria)
    assert len(rows) == 1, f"{criteria}: {len(rows)} rows"
    return rows.iloc[0]


def of_class(name, metric):
    return {"class": name, "metric": metric}


def stream_settings(**changes):
    """Settings of a stream: the paper's, without augmented copies, but for changes."""
    values = params.load("paper", "04_task3_stream") | {"train_images": 0, "test_images": 0}
    return streams.settings_of(values, **changes)


def copy_sample(*without):
    """Copy the committed results, but for pictures and some names, to where results are now."""
    committed, folder = paths.PROJECT / "results" / "sample", paths.results("sample")
    ignored = shutil.ignore_patterns("figures", "notebooks", "*.npz", *without)
    shutil.copytree(committed, folder, ignore=ignored, copy_function=shutil.copyfile)
    for path in (folder / "scores.csv", folder / "tables" / "conventions.csv"):
        if path.is_file():
            path.touch()  # newer than what it is computed from


def slice_rows(quality, subset="test", **columns):
    """A manifest row a slice, each of another patient."""
    patients = {f"s{i:02d}": 1 for i in range(len(quality))}
    rows = manifest(patients, "medseg", "covid", "CT")
    return rows.assign(label_quality=quality, subset=subset, **columns)


def dice_of(truth, found):
    size = truth.sum() + found.sum()
    return 2 * (truth & found).sum() / size if size else np.nan


def square(top, left, side, size=50, label=1):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = label
    return mask


def slices_of_a_chest(count):
    """Slices with mild disease in Hounsfield units, and where the lungs are."""
    chest = build(np.random.default_rng(5), 192)
    volume = infect(chest, "covid", 0.3, 5)
    lungs = np.zeros(volume.hu.shape, bool)
    lungs[chest.lung.box] = chest.lung.share >= 0.5
    numbers = (np.linspace(0.4, 0.75, count) * len(volume.hu)).astype(int)
    return [(ct_slice(volume, number)[0], lungs[number]) for number in numbers]
