"""The data sets: what they are, under which terms, and how each is got.

Addresses stand here and nowhere else; tests put a server of their own in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from covid_utils.data.download.checksums import Checksum

_GB = 10**9


@dataclass(frozen=True)
class Unpacking:
    """How an archive becomes a folder.

    Attributes:
        into: Folder below the data folder that gets the content.
        limit: Largest unpacked size in bytes.
        top: Names that the content starts with; where the archive puts them deeper, what is above
            is dropped. Empty: single folders at the top are dropped.
        only: Patterns of the names in the archive that are unpacked; empty for all.
        counts: Folder in the content to the number of images that must be in it.
    """

    into: str
    limit: int
    top: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def is_wanted(self, name: str) -> bool:
        """Whether an entry of the archive is unpacked."""
        return not self.only or any(fnmatchcase(name, pattern) for pattern in self.only)


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        url: Its address.
        path: Where it belongs below the data folder.
        checksum: What it must add up to; None if its publisher states none.
        size: Bytes, None if not known beforehand.
        unpacking: How it is unpacked, None for a file that is used as it is.
    """

    url: str
    path: str
    checksum: Checksum | None = None
    size: int | None = None
    unpacking: Unpacking | None = None

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Files:
    """A set of files with addresses of their own."""

    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Repository:
    """Files of a Git repository on GitHub, as they were in one commit.

    Attributes:
        owner: Account on GitHub.
        name: Repository.
        commit: 40 hexadecimal digits.
        into: Folder below the data folder.
        choose: Patterns of the paths to fetch; ``*`` also stands for slashes.
        unpacking: Path of an archive in the repository to how it is unpacked.
        listing_url: Address of the listing.
        content_url: Address of a file.
    """

    owner: str
    name: str
    commit: str
    into: str
    choose: tuple[str, ...]
    unpacking: Mapping[str, Unpacking] = field(default_factory=dict)
    listing_url: str = "https://api.github.com/repos/{owner}/{name}/git/trees/{commit}?recursive=1"
    content_url: str = "https://raw.githubusercontent.com/{owner}/{name}/{commit}/{path}"

    def is_chosen(self, path: str) -> bool:
        """Whether a file of the repository is fetched."""
        return any(fnmatchcase(path, pattern) for pattern in self.choose)


@dataclass(frozen=True)
class ByHand:
    """A set that no program may or can fetch.

    Attributes:
        steps: What to do, one sentence each; ``{folder}`` is the data folder.
        needs: Paths below the data folder that are there when it is done.
        archive: Name of an archive that is unpacked if it lies in the data folder, or None.
        unpacking: How that archive is unpacked.
    """

    steps: tuple[str, ...]
    needs: tuple[str, ...]
    archive: str | None = None
    unpacking: Unpacking | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set and the way to get it.

    Attributes:
        name: Its folder in the data folder, and its name on the command line.
        title: What it is.
        licence: Its terms.
        source: Where a person finds it.
        delivery: How it is got.
        size: Bytes to fetch, None if not known.
    """

    name: str
    title: str
    licence: str
    source: str
    delivery: Files | Repository | ByHand
    size: int | None = None

    @property
    def is_by_hand(self) -> bool:
        """Whether a person has to fetch it."""
        return isinstance(self.delivery, ByHand)


def _figshare(number: int, name: str, md5: str) -> RemoteFile:
    url = f"https://ndownloader.figshare.com/files/{number}"
    return RemoteFile(url, f"medseg/{name}", Checksum("md5", md5))


_MEDSEG = DataSet(
    "medseg",
    "COVID-19 CT segmentation: 100 axial slices with masks",
    "CC0",
    "figshare.com, article 13521488",
    Files(
        (
            _figshare(25953977, "tr_im.nii.gz", "54f82e3a9ac01bf6cc2300ca53d820ae"),
            _figshare(25953980, "tr_mask.nii.gz", "d11996de45d06d332658115d8b3cf6fc"),
            _figshare(25953983, "val_im.nii.gz", "098e8ab8b2e85f7c66abf8a92721ee95"),
            _figshare(
                25953974,
                "Test-Images-Clinical-Details.csv",
                "35aefddbccfbb8fa3dee5be69258cb29",
            ),
        )
    ),
)

_COVID_CHESTXRAY = DataSet(
    "covid-chestxray-dataset",
    "COVID-19 Image Data Collection (Cohen et al. 2020): X-rays and some CT slices",
    "by image, in metadata.csv",
    "github.com/ieee8023/covid-chestxray-dataset",
    Repository(
        "ieee8023",
        "covid-chestxray-dataset",
        "6a4242344473ccb5ed0d2148d8c7bfb1691e4ed8",
        "covid-chestxray-dataset",
        ("metadata.csv", "LICENSE*", "LICENCE*", "README*", "images/*"),
    ),
)

_COVID_CT = DataSet(
    "COVID-CT",
    "UCSD COVID-CT (Zhao et al. 2020): CT slices cut out of papers",
    "rights with the authors and publishers of the papers",
    "github.com/UCSD-AI4H/COVID-CT",
    Repository(
        "UCSD-AI4H",
        "COVID-CT",
        "0c83254a43230de176489a9b4e3ac12e23b0df53",
        "COVID-CT",
        ("Images-processed/CT_COVID.zip", "Images-processed/CT_NonCOVID.zip"),
        {
            f"Images-processed/{kind}.zip": Unpacking(
                f"COVID-CT/{kind}", 2 * _GB, counts={"": count}
            )
            for kind, count in (("CT_COVID", 349), ("CT_NonCOVID", 397))
        },
    ),
)

_CHEST_XRAY = DataSet(
    "chest_xray",
    "Kermany et al. 2018: chest X-rays of children",
    "CC BY 4.0",
    "data.mendeley.com/datasets/rscbjbr9sj/2",
    Files(
        (
            RemoteFile(
                "https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
                "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
                "chest_xray/ChestXRay2017.zip",
                unpacking=Unpacking(
                    "chest_xray",
                    10 * _GB,
                    top=("train", "test"),
                    # The publisher states no checksum, so the numbers of the images stand in.
                    counts={
                        "train/NORMAL": 1349,
                        "train/PNEUMONIA": 3883,
                        "test/NORMAL": 234,
                        "test/PNEUMONIA": 390,
                    },
                ),
            ),
        )
    ),
    1_235_512_464,
)

_RSNA_PARTS = (
    "stage_2_train_images",
    "stage_2_train_labels.csv",
    "stage_2_detailed_class_info.csv",
)

_RSNA = DataSet(
    "rsna",
    "RSNA Pneumonia Detection Challenge 2018: chest X-rays",
    "RSNA's terms",
    "kaggle.com, competition rsna-pneumonia-detection-challenge",
    ByHand(
        (
            "On kaggle.com, with an account, accept the rules of the competition "
            "rsna-pneumonia-detection-challenge.",
            "Run: kaggle competitions download -c rsna-pneumonia-detection-challenge -p {folder}",
            "Run this command again: it unpacks the archive to {folder}/rsna "
            "(stage_2_train_images/, stage_2_train_labels.csv, stage_2_detailed_class_info.csv).",
        ),
        tuple(f"rsna/{part}" for part in _RSNA_PARTS),
        "rsna-pneumonia-detection-challenge.zip",
        Unpacking(
            "rsna",
            20 * _GB,
            top=_RSNA_PARTS,
            only=("*stage_2_train_images/*", *(f"*{part}" for part in _RSNA_PARTS[1:])),
        ),
    ),
)

_NIH_ADULT = DataSet(
    "nih-adult",
    "adult X-rays of NIH ChestX-ray14 (Wang et al. 2017)",
    "free use",
    "nihcc.app.box.com/v/ChestXray-NIHCC",
    ByHand(
        (
            "From nihcc.app.box.com/v/ChestXray-NIHCC take the images and Data_Entry_2017.csv.",
            "Of the patients of 18 years or more, put images with the finding 'No Finding' into "
            "{folder}/nih-adult/No_findings and those with 'Pneumonia' into "
            "{folder}/nih-adult/Pneumonia; keep the file names, which tell the patient.",
        ),
        ("nih-adult/No_findings", "nih-adult/Pneumonia"),
    ),
)

_LIDC = DataSet(
    "lidc-idri",
    "LIDC-IDRI (Armato et al. 2011): CT scans with four readers' outlines of nodules",
    "CC BY 3.0",
    "cancerimagingarchive.net/collection/lidc-idri",
    ByHand(
        (
            "From cancerimagingarchive.net/collection/lidc-idri take the images (DICOM) and the "
            "radiologists' annotations (XML).",
            "Put the patients' folders (LIDC-IDRI-0001 and so on) into {folder}/lidc-idri, and "
            "each XML file beside the slices of the series that it names.",
        ),
        ("lidc-idri",),
    ),
)

_LUNA16 = DataSet(
    "luna16",
    "LUNA16 (Setio et al. 2017): CT scans of LIDC-IDRI with the positions of nodules",
    "CC BY 4.0",
    "luna16.grand-challenge.org",
    ByHand(
        (
            "From luna16.grand-challenge.org, page Download, take annotations.csv and one or more "
            "of subset0.zip to subset9.zip.",
            "Put annotations.csv and the unpacked subsets (*.mhd with *.raw) into {folder}/luna16.",
        ),
        ("luna16/annotations.csv",),
    ),
)

#: Name on the command line to data set.
SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        _MEDSEG,
        _COVID_CHESTXRAY,
        _COVID_CT,
        _CHEST_XRAY,
        _RSNA,
        _NIH_ADULT,
        _LIDC,
        _LUNA16,
    )
}
