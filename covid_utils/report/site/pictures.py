"""Figures of a profile with what they show in words, for those who do not see them."""

from __future__ import annotations

from pathlib import Path

from covid_utils import paths
from covid_utils.report.site import markup

#: Figure -> number and caption.
CAPTIONS = {
    "fig02": "Figure 2. Images of each class",
    "fig03": "Figure 3. CT slices and their masks, before and after augmentation",
    "fig07": "Figure 7. Recognition: confusion matrices of the test images",
    "fig08": "Figure 8. Recognition: accuracy and loss while the last layer learns",
    "fig09": "Figure 9. Manifestations: confusion matrices of the test slices",
    "fig10": "Figure 10. Test slices with the radiologist's outlines and those of each stream",
    "fig11": "Figure 11. Test slices: what DeepLab-v3+ and U-Net found, missed and made up",
    "steps_and_rate": "Accuracy against number of steps and learning rate (ours, beside the paper)",
    "rivals": "The network beside simpler rules (ours, beside the paper)",
    "reliability": "How often an answer is right, against how sure it was (ours, beside the paper)",
    "grad_cam": "Where the network looks, by Grad-CAM (ours, beside the paper)",
}
#: Figure -> what it shows; the numbers of a chart are in the table that the text names.
ALT = {
    "fig02": "A sheet of X-rays and CT slices in gray, one row for each class.",
    "fig03": "CT slices above, below them the same slices with ground-glass, consolidation and "
    "effusion in colours: as they are, and turned, shifted, zoomed and sheared.",
    "fig07": "Two heat maps, for two and for four classes: true class downwards, predicted class "
    "across, with counts and shares of each row. Tables 2 and 3 have what follows from them.",
    "fig08": "Line charts over the training steps, training and validation: accuracy rises "
    "steeply and flattens, the loss falls. Table 2 has the accuracies at the end.",
    "fig09": "Three heat maps, for ground-glass, consolidation and effusion: present and absent "
    "in truth downwards, as predicted across. Table 5 has what follows from them.",
    "fig10": "Rows of CT slices; beside each, in the same colours, the radiologist's outlines, "
    "those of the all-class stream, of the specialists, and of these put together.",
    "fig11": "CT slices for each network, with pixels found, missed and falsely marked in three "
    "colours. Table 8 has the scores.",
    "steps_and_rate": "Heat maps of validation accuracy, learning rate downwards and number of "
    "steps across, one for each task; the paper's setting is framed.",
    "rivals": "Dots with 95 % intervals, a line each: the network, a fine-tuned one, rules that "
    "know little; a dashed line marks what the paper states. Table 3 has the numbers.",
    "reliability": "Curves of the share of right answers against confidence, beside the diagonal "
    "of perfect calibration; bars show how many answers have that confidence.",
    "grad_cam": "X-rays with a warm overlay on the regions that the answer rests on.",
}
#: Figures that show scans: never committed if the scans are of people.
OF_SCANS = ("fig02", "fig03", "fig10", "fig11", "grad_cam")
#: Above this size a picture made of vectors is no gain over one made of pixels.
VECTOR_LIMIT = 300_000


def files(profile: str, name: str) -> list[Path]:
    """Files of a figure, or of its parts (``fig10_1`` ...); SVG where that is not too large."""
    folder = paths.results(profile) / "figures"
    found = [path for ending in ("svg", "png") for path in folder.glob(f"{name}*.{ending}")]
    stems = sorted({path.stem for path in found if _is_of(path.stem, name)})
    return [_better(folder / stem) for stem in stems]


def _is_of(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}_")


def _better(stem: Path) -> Path:
    vector, pixels = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.png")
    is_fit = vector.is_file() and (vector.stat().st_size <= VECTOR_LIMIT or not pixels.is_file())
    return vector if is_fit else pixels


def show(profile: str, name: str) -> str:
    """A figure as HTML, or a sentence if it is not there."""
    found = files(profile, name)
    if not found:
        return _absent(profile, name)
    return "".join(
        markup.figure(f"figures/{file.name}", alt(file, name), CAPTIONS[name]) for file in found
    )


def alt(file: Path, name: str) -> str:
    """What a figure shows in words: those written with it, made from its data, or general ones."""
    words = file.with_suffix(".txt")
    return " ".join(words.read_text(encoding="utf8").split()) if words.is_file() else ALT[name]


def _absent(profile: str, name: str) -> str:
    number = CAPTIONS[name].split(".")[0] if name.startswith("fig") else f"“{CAPTIONS[name]}”"
    command = f"make reproduce PROFILE={profile} DATA=folder"
    reason = (
        "shows scans, which are no part of this repository"
        if name in OF_SCANS
        else "has not been drawn yet"
    )
    return (
        f'<p class="absent">{number} {reason}; <code>{command}</code> draws it on a machine that '
        "has them.</p>"
    )
