"""Fixtures that several test modules share."""

import os
from pathlib import Path

import pytest

from covid_utils import paths


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real scans; the test is skipped where there is none."""
    folder = Path(os.environ.get("COVID_DATA") or paths.PROJECT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real scans: neither ../shared/data nor COVID_DATA is a folder")
    return folder
