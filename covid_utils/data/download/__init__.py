"""Fetching the public data sets into the layout that the readers expect.

    outcomes = download.fetch(["medseg", "COVID-CT"], folder)

How sure the content is differs. ``medseg`` is checked against MD5 sums noted in the catalogue, and
the files of the Git repositories against Git's own checksums of a pinned commit. ``chest_xray`` is
weaker: its publisher states no checksum, so the first download is only counted (images in each of
its four folders), and its SHA-256 is noted, with which a later download is compared. Sets that ask
for an account or a choice are fetched by hand; `fetch` says how.
"""

from covid_utils.data.download.catalogue import (
    SETS,
    ByHand,
    DataSet,
    Files,
    RemoteFile,
    Repository,
    Unpacking,
)
from covid_utils.data.download.checksums import Checksum
from covid_utils.data.download.failures import BlockedError
from covid_utils.data.download.fetching import Outcome, fetch
from covid_utils.data.download.transfer import Transfer

__all__ = [
    "SETS",
    "BlockedError",
    "ByHand",
    "Checksum",
    "DataSet",
    "Files",
    "Outcome",
    "RemoteFile",
    "Repository",
    "Transfer",
    "Unpacking",
    "fetch",
]
