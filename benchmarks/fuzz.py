"""Damage small files of every format, read them, and count what happens.

``python benchmarks/fuzz.py 10000`` reads so many files of each format: those of data sets as the
readers do, for ``fuzz.md``, and scans of one's own as `covid-read` does before it outlines them,
for ``fuzz_scans.md``. Given the name of one of these pages, it rewrites that one alone.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from PIL import Image

import chest_phantom
from covid_read import shipped
from covid_read.cases import Refusal, cases
from covid_utils import paths
from covid_utils.data import guard, readers
from covid_utils.data.readers import decoding, luna16
from covid_utils.errors import DataError

PAGE, KEPT = Path(__file__).with_name("fuzz.md"), paths.PROJECT / "build" / "fuzz"
SCANS_PAGE = PAGE.with_name("fuzz_scans.md")
#: Time for one file; CPU time and address space of the process that reads a batch of files.
SECONDS, BATCH_SECONDS, GIB = 20, 300, 3
BATCH = 500
#: Files that were opened since it was cleared, and whether for writing.
OPENED: list[tuple[str, bool]] = []
#: What numbers in a text become.
WORDS = (b"", b"0", b"-1", b"1", b"65535", b"2147483648", b"99999999999999999999", b"1e400")
WORDS += (b"nan", b"inf", b"1,0", b"1.5", b"\xc3\xbc", b"\xff")
#: Bytes that are written over others.
FILLS = (b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x80" + b"\0" * 7)
#: The whole files of each format, below the phantom's folder.
FORMATS = {
    "PNG": ("COVID-CT/CT_COVID/*5-21%0.png", "variants/*.png"),
    "JPEG": ("chest_xray/test/NORMAL/*-0001.jpeg", "variants/*.jpg"),
    "TIFF": ("variants/*.tif",),
    "DICOM": ("rsna/stage_2_train_images/*.dcm", "lidc-idri/*/*.dcm"),
    "NIfTI": ("variants/*.nii", "medseg/tr_im.nii.gz"),
    "MetaImage": ("luna16/*.mhd", "luna16/*.raw"),
    "XML": ("lidc-idri/*/*.xml",),
    "CSV": ("covid-*/*.csv", "luna16/*.csv", "medseg/*.csv", "rsna/*class_info.csv"),
}
#: The same of scans of one's own, and of the pack of networks that outlines them.
SCANS = {name: FORMATS[name] for name in ("PNG", "JPEG", "TIFF", "DICOM", "NIfTI")}
SCANS |= {"ZIP": ("variants/*.zip",), "pack": ("variants/*.npz",)}
TEXT = """# Damaged files

`make fuzz` damages small files of the phantom, reads them as the readers do, and rewrites this
page. One to three times bytes are replaced, cut off, doubled or set to extremes, or a number in a
text becomes another word. *Refused* is one sentence with file, cause and remedy. *Crashed* is any
other error, the end of the process, or more than {} seconds. Each process reads {} files within
{} GiB of address space; its peak memory includes the libraries.

{}
"""
SCANS_TEXT = """# Damaged scans of one's own

`make fuzz` damages small files as [this page](fuzz.md) says, finds the cases in each as
`covid-read` does, loads all their slices, and rewrites this page. *Refused* is one sentence.
*Crashed* is any other error or more than one sentence, the end of the process, more than {}
seconds, or a file that is opened outside the one that was named and the folder where archives are
unpacked. ZIP archives hold scans of several formats, and names that climb out of their folder. A
pack holds networks and has the checksum of the whole file, so it is read only where the damage
changed nothing. Each process reads {} files within {} GiB of address space; its peak memory
includes the libraries. *Slowest* is the CPU time of one file.

{}
"""


def whole_files(root: Path) -> Path:
    """The phantom, and variants of one of its pictures for what it does not contain."""
    settings = chest_phantom.Settings(patients=chest_phantom.FEWEST, ct_size=64, xray_size=64)
    chest_phantom.write(root, settings)
    for path in sorted(root.glob("lidc-idri/*/*.dcm"))[1:]:
        path.unlink()  # one slice is enough for the XML file
    variants = root / "variants"
    variants.mkdir()
    root.with_name("unpacked").mkdir()
    picture = Image.open(next(root.glob("COVID-CT/CT_COVID/*.png"))).convert("L").resize((40, 32))
    units = np.asarray(picture, np.float32) * 4 - 1000
    for mode in ("1", "P", "LA", "RGBA"):
        picture.convert(mode).save(variants / f"{mode}.png")
    Image.fromarray(np.abs(units).astype(np.uint16)).save(variants / "deep.png")
    picture.convert("CMYK").save(variants / "cmyk.jpg")
    colour = picture.convert("RGB")
    colour.save(variants / "progressive.jpg", progressive=True, exif=Image.Exif())
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        picture.save(variants / f"{packing}.tif", compression=packing)
    picture.convert("1").save(variants / "fax.tif", compression="group4")
    Image.fromarray(units).save(variants / "float.tif")
    volume = nibabel.Nifti1Image(np.stack([units.T] * 3, axis=2).astype(np.int16), np.eye(4))
    volume.to_filename(variants / "volume.nii")
    _archives(root)
    shipped.write(variants / "pack.npz", {"one": shipped.Part({}, (np.ones((9, 9)),))})
    return root


def _archives(root: Path) -> None:
    """Archives of the variants, and one whose names climb out of where it is unpacked."""
    variants = root / "variants"
    scans = [variants / name for name in ("P.png", "cmyk.jpg", "volume.nii")]
    scans += sorted(root.glob("lidc-idri/*/*.dcm"))
    for name, packing in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(variants / f"{name}.zip", "w", packing) as archive:
            for path in scans:
                archive.write(path, f"deep/{path.name}")
    with zipfile.ZipFile(variants / "climbs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for place in ("../../../", "/", f"{variants}/", "a/../../"):
            archive.write(scans[0], f"{place}climbs.png")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file's content after one to three changes."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        end = len(data) if rng.random() < 0.5 else min(len(data), 400)  # where headers are
        at = int(rng.integers(end + 1))
        match rng.integers(5):
            case 0:
                if end:
                    for place in rng.integers(end, size=rng.integers(1, 9)):
                        data[place] = rng.integers(256)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = data[int(rng.integers(end + 1)) :][: int(rng.integers(1, 200))]
            case 3:
                fill = FILLS[rng.integers(len(FILLS))][: 2 ** int(rng.integers(4))]
                data[at : at + len(fill)] = fill
            case 4:
                found = re.compile(rb"-?\d+(\.\d+)?").search(data, at)
                span = found.span() if found else (at, at)
                data[slice(*span)] = WORDS[rng.integers(len(WORDS))]
    at = 8 if data.startswith(b"\x89PNG") and rng.random() < 0.8 else len(data)
    while at + 12 <= len(data):  # checksums are mended, so that more than these is tried
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def read(root: Path, path: Path) -> None:
    """Read a file through the guarded functions of the readers."""
    if path.suffix in (".csv", ".xml"):  # what describes a data set; no image is decoded
        problems = guard.Problems(path.relative_to(root).parts[0], root)
        readers.SOURCES[problems.dataset].candidates(root, problems)
        if any(row["problem"] == guard.UNREADABLE for row in problems.rows):
            raise DataError(problems.first())
    elif path.suffix in (".mhd", ".raw"):
        luna16.load_image(path.with_suffix(".mhd"), 0)
    elif path.suffix == ".dcm":
        decoding.read_dicom_header(path, ("PatientID",))
        decoding.read_dicom(path)
    elif path.name.endswith(decoding.NIFTI_SUFFIXES):
        decoding.axial_slices(path)
    else:
        decoding.read_raster(path)


def read_scan(root: Path, path: Path) -> None:
    """Find the cases in a file of one's own and load all their slices, or read a pack."""
    if path.suffix == ".npz":
        shipped.read(path)
        return
    OPENED.clear()
    found = []
    for case in cases([path], root / "none"):
        found.append(case)
        for at in range(0 if isinstance(case, Refusal) else case.shape[0]):
            case.load(at)
    allowed = (str(path), tempfile.gettempdir())
    strays = [
        name
        for name, is_written in OPENED
        if (is_written or name.startswith(str(root))) and not name.startswith(allowed)
    ]
    reasons = [each.reason for each in found if isinstance(each, Refusal)]
    if strays or any("\n" in reason or reason[-1] != "." for reason in reasons):
        raise AssertionError(strays or reasons)
    if len(reasons) == len(found):
        raise DataError(" ".join(reasons))


def note(event: str, given: tuple) -> None:
    """Keep what Python opens in `OPENED`: an audit hook."""
    if event == "open" and isinstance(given[0], str):
        is_written = bool(given[2] & (os.O_WRONLY | os.O_RDWR))
        OPENED.append((os.path.normpath(given[0]), is_written))


def outcome(root: Path, path: Path, content: bytes, is_scan: bool) -> str:
    """Put other content into a file, read it, and restore the file."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        (read_scan if is_scan else read)(root, path)
    except DataError:
        return "refused"
    except Exception:
        return "crashed"
    finally:
        path.write_bytes(whole)
    return "read"


def batch(
    root: Path, files: list[tuple[Path, bytes]], is_scan: bool
) -> tuple[list[str], float, resource.struct_rusage]:
    """Outcomes up to the first file that ends the process, seconds of the slowest, and usage."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_AS, (GIB * 2**30, GIB * 2**30))
            resource.setrlimit(resource.RLIMIT_CPU, (BATCH_SECONDS, BATCH_SECONDS))
            sys.addaudithook(note)
            tempfile.tempdir = str(root.with_name("unpacked"))
            for path, content in files:
                signal.setitimer(signal.ITIMER_REAL, SECONDS)  # its signal ends the process
                start = time.process_time()
                result = outcome(root, path, content, is_scan)
                os.write(writer, f"{result} {time.process_time() - start}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = [line.split() for line in pipe]
    outcomes = [result for result, _ in told]
    if len(told) < len(files):
        outcomes.append("crashed")  # the file that ended the process
    slowest = max((float(seconds) for _, seconds in told), default=0.0)
    return outcomes, slowest, os.wait4(child, 0)[2]


def run(name: str, count: int, root: Path, is_scan: bool = False) -> dict[str, object]:
    """Row of a table for one format; what crashed is kept in ``build/fuzz``."""
    print(f"{name} ...", flush=True)
    patterns = (SCANS if is_scan else FORMATS)[name]
    found = sorted(path for pattern in patterns for path in root.glob(pattern))
    whole = {path: path.read_bytes() for path in found}
    tally = Counter(read=0, refused=0, crashed=0)
    seconds = peak = slowest = 0.0
    while (done := tally.total()) < count:
        files = []
        for number in range(done, min(count, done + BATCH)):
            path = found[number % len(found)]
            rng = np.random.default_rng([zlib.crc32(name.encode()), number])
            files.append((path, damaged(whole[path], rng)))
        outcomes, longest, usage = batch(root, files, is_scan)
        for at, result in enumerate(outcomes):
            if result == "crashed":
                path, content = files[at]
                path.write_bytes(whole[path])
                KEPT.mkdir(parents=True, exist_ok=True)
                (KEPT / f"{done + at}-{path.name}").write_bytes(content)
        tally.update(outcomes)
        seconds += usage.ru_utime + usage.ru_stime
        peak, slowest = max(peak, usage.ru_maxrss / 1000), max(slowest, longest)
    costs = {"slowest, ms": round(1000 * slowest)} if is_scan else {}
    costs |= {"CPU seconds": round(seconds), "peak memory, MB": round(peak)}
    return {"format": name, "files": count} | dict(tally) | costs


def main() -> None:
    """Read damaged files of all formats, and write the tables."""
    count, *names = sys.argv[1:]
    crashed = 0
    pages = ((PAGE, FORMATS, TEXT), (SCANS_PAGE, SCANS, SCANS_TEXT))
    with tempfile.TemporaryDirectory() as folder:
        root = whole_files(Path(folder) / "phantom")
        for page, formats, text in pages:
            if not names or page.name in names:
                rows = [run(name, int(count), root, page == SCANS_PAGE) for name in formats]
                table = pd.DataFrame(rows)
                lines = table.to_markdown(index=False, intfmt=",")
                page.write_text(text.format(SECONDS, BATCH, GIB, lines), encoding="utf8")
                crashed += int(table["crashed"].sum())
    if crashed:
        sys.exit("Some files crashed; they are in build/fuzz.")


if __name__ == "__main__":
    main()
