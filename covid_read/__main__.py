"""Recognise scans of your own; in CT, name manifestations and outline them.

For research and teaching only; not a medical device.

Reads PNG, JPEG, TIFF, DICOM files and series, NIfTI, ZIP archives, and folders of any of these.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from covid_read import pages
from covid_read.extent import BATCH
from covid_read.folder import FORMATS, NIFTI
from covid_read.stages import STAGES
from covid_utils.errors import CompanionError

#: What the progress on standard error shows.
BAR = "{n_fmt} images in {elapsed}, {rate_noinv_fmt}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="covid-read",
        description=__doc__,
        epilog="Exit code: 0 if everything was read, 3 if some of it was, 2 if nothing was.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files and folders")
    parser.add_argument(
        "-o", "--out", required=True, type=Path, help="folder of results; open its index.html"
    )
    formats = f"formats of masks, separated by commas: {', '.join(FORMATS)} (default {NIFTI})"
    parser.add_argument("--format", default=NIFTI, help=formats)
    parser.add_argument(
        "--probabilities", action="store_true", help="write the probability of each pixel's label"
    )
    stages = "1 recognises, 2 names manifestations, 3 outlines them (default 1,2,3)"
    parser.add_argument("--stages", default=",".join(map(str, STAGES)), help=stages)
    parser.add_argument("--xrays", action="store_true", help="treat pictures as X-rays")
    parser.add_argument(
        "--model", type=Path, help="file or folder of a network, instead of the shipped one"
    )
    parser.add_argument(
        "--batch", type=int, default=BATCH, help=f"slices per batch (default {BATCH})"
    )
    return parser


@contextmanager
def _alone() -> Iterator[TextIO]:
    """Standard error for the command itself: TensorFlow's own words there are of no use."""
    with os.fdopen(os.dup(2), "w") as shown, Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield shown
        finally:
            os.dup2(shown.fileno(), 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Read what the command line names; progress and sentences go to standard error."""
    arguments = _parser().parse_args(argv)
    from tqdm import tqdm

    import covid_read

    chosen = {name: getattr(arguments, name) for name in ("probabilities", "batch", "xrays")}
    chosen["formats"] = [each.strip() for each in arguments.format.split(",")]
    numbers = {str(stage): stage for stage in STAGES}
    chosen["stages"] = [numbers.get(each.strip(), each) for each in arguments.stages.split(",")]
    chosen["model"] = arguments.model or covid_read.MODEL
    try:
        with _alone() as shown, tqdm(bar_format=BAR, unit=" images", file=shown) as bar:
            result = covid_read.read(arguments.inputs, arguments.out, tell=bar.update, **chosen)
    except CompanionError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    summary = result.summary
    reasons = [(each["name"], each["why_not_outlined"]) for each in summary.records]
    lines = [*summary.refused, *(f"{name}: {why}" for name, why in reasons if why)]
    known = {None, *(why for _, why in reasons)}
    for stage in ("why_not_recognised", "why_not_named"):  # of most cases for the same reason
        lines += dict.fromkeys(each[stage] for each in summary.records if each[stage] not in known)
    count = pages.counted(summary.records, summary.refused)
    print(*lines, f"{count}; open {arguments.out / 'index.html'}", sep="\n", file=sys.stderr)
    return result.status


if __name__ == "__main__":
    sys.exit(main())
