"""Run the benchmarks and write ``results.json`` and ``README.md`` next to this file.

Given names of sections, such as ``segmentation``, run only those and keep the other results.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import comparisons
import export
import input_pipeline
import reading
import recognition
import segmentation
import timing

HERE = Path(__file__).parent
#: Section of the results -> what measures it, in the order of the page.
SECTIONS = {
    "comparisons": comparisons.run,
    "input pipeline": input_pipeline.run,
    "recognition": recognition.run,
    "segmentation": segmentation.run,
    "reading": reading.run,
    "export": export.run,
}


def measure(names: Iterable[str], stored: dict) -> dict:
    """Run some sections and take the others from stored results; all take about 20 minutes."""
    if unknown := sorted(set(names) - set(SECTIONS)):
        raise SystemExit(f"No section {', '.join(unknown)}; there are {', '.join(SECTIONS)}.")
    if set(names) < set(SECTIONS) and stored.get("machine") != machine():
        raise SystemExit(f"The stored results are of another machine; run all here: {machine()}.")
    sections = {name: run() if name in names else stored[name] for name, run in SECTIONS.items()}
    return {"machine": machine()} | sections


def machine() -> dict:
    """What times depend on besides the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": (models or [platform.machine()])[0],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0",
    }


def page(results: dict) -> str:
    """The page of the results."""
    import jinja2

    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template("page.md.j2").render(
        **results | results["recognition"] | results["segmentation"],
        sizes=results["input pipeline"],
        input_pipeline=input_pipeline,
        task1=recognition,
        task3=segmentation,
        own=reading,
        rounding=export.ROUNDING,
        timing=timing,
    )


def main() -> None:
    """Measure, and write both files."""
    path = HERE / "results.json"
    stored = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    results = measure(sys.argv[1:] or list(SECTIONS), stored)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")
    (HERE / "README.md").write_text(page(results), encoding="utf8")
    print("Updated benchmarks/README.md and benchmarks/results.json.")


if __name__ == "__main__":
    main()
