"""Finding and reading the files of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from covid_utils.data.images import RASTER_SUFFIXES
from covid_utils.errors import DataError


def image_files(folder: Path) -> list[Path]:
    """Raster images directly in a folder, by name; hidden files (``._x.jpeg``) are left out.

    Args:
        folder: A folder, which need not exist.

    Returns:
        The files, sorted; empty for a missing folder.
    """
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in RASTER_SUFFIXES and not path.name.startswith(".")
    )


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text, blank cells as ''.

    Args:
        path: The file.
        columns: Columns that must be there; others are kept.

    Returns:
        The table, every value a string.

    Raises:
        DataError: The file is missing, no CSV, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; unpack the data set whole.") from None
    except (ValueError, OSError) as error:  # pandas' parser errors and wrong encodings
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: not a CSV file ({reason}); download it again.") from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: the columns {missing} are missing, the file has {list(table.columns)}; "
            "use the file that comes with the data set."
        )
    return table
