"""Draw ``docs/first_look.png`` for the README: a phantom slice, its reference and a prediction."""

import sys

from covid_utils import paths, registry
from covid_utils.report import galleries, sheets, style

PROFILE, WIDTH = "quick", 1400


def main() -> int:
    """Draw the slice that shows most; the profile holds the phantom, never a real scan."""
    masks = galleries.read_masks(PROFILE, {"prediction": registry.stream_run("all")})
    if not masks:
        print("No masks of the phantom yet: run 'make reproduce' first.", file=sys.stderr)
        return 1
    kept = masks["prediction"]
    at = galleries.most_varied(kept.truth, count=1)
    columns = {"reference": kept.truth[at], "prediction": kept.predicted[at]}
    style.use()
    title = "The phantom: a simulated chest, no person"
    figure = sheets.segmentation_sheet(kept.images[at], columns, title)
    target = paths.PROJECT / "docs" / "first_look.png"
    figure.savefig(target, dpi=WIDTH / figure.get_figwidth())
    print(f"{paths.shown(target)}: written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
