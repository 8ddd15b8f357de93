"""One segmentation stream: its settings, its slices, its targets (paper, section 3.5).

A stream is a network for one question: ``all`` tells four classes apart; ``ggo``,
``consolidation`` and ``effusion`` each find one manifestation; ``nodule`` finds lung nodules, and
its weights, without the last layer, are where the others may start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from covid_utils import paths, runs
from covid_utils.data import augment, cache, lungs, splits
from covid_utils.data.collection import Collection
from covid_utils.data.images import Preprocessing
from covid_utils.errors import DataError, ParameterError
from covid_utils.models.unet import DEPTH
from covid_utils.registry import LESION, LESION_SETS, NODULE_SETS, STREAMS, stream_run
from covid_utils.training import losses

MODELS = ("deeplab", "unet")
INITS = ("random", "nodule", "imagenet", "tf1")
AUGMENTATIONS = ("affine", "wide", "published")


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        stream: One of `STREAMS`.
        model: ``deeplab`` or ``unet``.
        init: ``random``, ``nodule``, ``imagenet`` (Keras's Xception) or ``tf1`` (a checkpoint of
            the published graph).
        weights: For ``imagenet``: that word, or a file; for ``tf1`` the checkpoint's prefix.
        image_size: Side of the prepared slices in pixels.
        crop: ``none``, or ``lungs``: the square around the lungs, see `lungs.box`.
        clahe_clip: Clip limit of the equalisation of contrast; 0 leaves the window as it is.
        base: U-Net: channels of the first level.
        width: DeepLab: factor of all channels.
        middle_blocks: DeepLab: blocks of the middle flow.
        output_stride: DeepLab: of the encoder.
        atrous_rates: DeepLab: of the pyramid.
        decoder_stride: DeepLab: pixels of the input per step of the answer.
        norm_momentum: Of batch norm.
        batch_norm: ``trained`` or ``frozen``: the statistics that the weights came with are kept.
        steps: Gradient steps; the paper trains 50,000.
        batch_size: Slices that the network sees at once.
        accumulate: Batches whose gradients make one step, for machines with little memory.
        augmentation: ``affine``, ``wide`` (further, and in other gray scales), or ``published``:
            scale 0.5 to 2 by 0.25, a crop, a flip.
        optimizer: ``sgd`` with momentum (the paper) or ``adam``.
        learning_rate: At the first step; the paper has 1e-4.
        momentum: Of ``sgd``.
        power: Of the polynomial decay.
        weight_decay: Factor of the L2 penalty on convolution kernels; the paper has 4e-5.
        loss: One of `losses.LOSSES`.
        class_weights: Of pixels with the mask labels 0, 1, 2, 3 in the cross entropy.
        flip_test: Whether a prediction is the mean of a slice's and its mirror image's.
        test_scales: Factors that a slice is resized by for a prediction, which is the mean over
            them, as DeepLab's authors test theirs (Chen et al. 2018); 1 is its own size.
        attenuation_margin: Gray values that a lesion is denser than the slice's healthy lung, see
            `lungs.denser_than_healthy`; 0 asks for nothing. Needs ``clahe_clip`` 0.
        evaluate_every: Steps between two looks at the validation slices, and two checkpoints.
        average_last: The mean of the weights at so many last looks is kept (Izmailov et al. 2018);
            0 for the single look that does best on validation.
        refit: Whether the validation slices teach as well, once every other setting is chosen.
            Nothing is then left to watch the training by, so it needs ``average_last``.
        members: Trainings of the same network, each from other random draws, whose logits are
            averaged (Lakshminarayanan et al. 2017); 1, as in the paper, is a single network.
        member: Which of them this is, from 0.
        seed: Of weights, order and augmentation.
    """

    stream: str = "all"
    model: str = "deeplab"
    init: str = "nodule"
    weights: str = ""
    image_size: int = 512
    crop: str = "none"
    clahe_clip: float = 2.0
    base: int = 64
    width: float = 1.0
    middle_blocks: int = 16
    output_stride: int = 16
    atrous_rates: tuple[int, ...] = (6, 12, 18)
    decoder_stride: int = 4
    norm_momentum: float = 0.9997
    batch_norm: str = "trained"
    steps: int = 50_000
    batch_size: int = 4
    accumulate: int = 1
    augmentation: str = "published"
    optimizer: str = "sgd"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    power: float = 0.9
    weight_decay: float = 4e-5
    loss: str = "cross_entropy"
    class_weights: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    flip_test: bool = False
    test_scales: tuple[float, ...] = (1.0,)
    attenuation_margin: float = 0.0
    evaluate_every: int = 500
    average_last: int = 0
    refit: bool = False
    members: int = 1
    member: int = 0
    seed: int = 2020

    def __post_init__(self):
        for name in ("atrous_rates", "class_weights", "test_scales"):  # parameters come as lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        choices = {
            "stream": tuple(STREAMS),
            "model": MODELS,
            "init": INITS,
            "batch_norm": ("trained", "frozen"),
            "augmentation": AUGMENTATIONS,
            "loss": losses.LOSSES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ParameterError(f"{name} '{value}' is none of {', '.join(allowed)}.")
        if self.stream == "nodule" and self.init == "nodule":
            raise ParameterError("the nodule stream cannot start from itself; set init 'random'.")
        if self.model == "unet" and self.init in ("imagenet", "tf1"):
            raise ParameterError(f"init '{self.init}': these weights fit model 'deeplab' only.")
        if self.attenuation_margin and self.clahe_clip:
            raise ParameterError(
                "attenuation_margin compares gray values, which clahe_clip changes from place to "
                "place; set one of them to 0."
            )
        if self.refit and not self.average_last:
            raise ParameterError(
                "refit leaves no validation slice to choose the best weights by; set average_last "
                "to 1 or more."
            )
        if not self.test_scales or min(self.test_scales) <= 0:
            raise ParameterError("test_scales: give factors above 0, such as 1.0 for one size.")
        if self.members < 1:
            raise ParameterError(f"members: {self.members} trainings are none; use 1 or more.")
        if len(self.class_weights) != 4:
            raise ParameterError("class_weights: give four, for background and the three labels.")

    @property
    def run_name(self) -> str:
        """Folder of the run below ``results/<profile>``; it names an unusual start."""
        usual = "nodule" if self.model == "deeplab" and self.stream != "nodule" else "random"
        other = "" if self.init == usual else self.init
        return stream_run(self.stream, self.model, other)

    @property
    def preprocessing(self) -> Preprocessing:
        """How its slices are prepared."""
        return Preprocessing(self.image_size, self.clahe_clip, crop=self.crop)

    @property
    def draws(self) -> int:
        """Seed of the random draws of this member."""
        return self.seed + 1000 * self.member

    @property
    def side(self) -> int:
        """Side of the network's input in pixels.

        One more than the slice for DeepLab, so that the corners of all its resolutions align (the
        paper's 513); the next multiple that a U-Net can halve.
        """
        if self.model == "deeplab":
            return self.image_size + 1
        return -(-self.image_size // 2**DEPTH) * 2**DEPTH

    @property
    def architecture(self) -> tuple:
        """What the network is, and nothing else."""
        strides = (self.output_stride, self.decoder_stride)
        own = (0, self.width, self.middle_blocks, *strides, self.atrous_rates)
        if self.model == "unet":
            own = (self.base, 0.0, 0, 0, 0, ())
        return (self.model, len(STREAMS[self.stream]), self.side, *own, self.norm_momentum)

    @property
    def recipe(self) -> tuple:
        """How its step is computed."""
        optimizer = {
            "name": self.optimizer,
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "power": self.power,
            "momentum": self.momentum,
            "accumulate": self.accumulate,
        }
        weights = tuple(self.class_weights[label] for label in (0, *label_names(self.stream)))
        return (self.loss, weights, tuple(optimizer.items()), self.weight_decay, self.batch_norm)


def settings_of(values: dict[str, object], **changes: object) -> StreamSettings:
    """Settings from a notebook's parameters; those of other things are passed over.

    Args:
        values: Parameters by name.
        **changes: Values that replace them.

    Raises:
        ParameterError: A value that there is not.
    """
    known = {field.name for field in fields(StreamSettings)}
    return StreamSettings(**{k: v for k, v in (values | changes).items() if k in known})


@dataclass(frozen=True)
class StreamData:
    """Rows, images and masks of a stream: uint8 (n, size, size) in the order of the rows."""

    rows: pd.DataFrame
    images: np.ndarray | cache.Rows
    masks: np.ndarray | cache.Rows

    @property
    def is_expanded(self) -> bool:
        """Whether there is a fixed set of augmented copies."""
        return "copy" in self.rows

    def part(self, subset: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and masks of one subset, each read or made only when it is asked for."""
        chosen = np.flatnonzero(self.rows["subset"] == subset)
        return cache.rows_of(self.images, chosen), cache.rows_of(self.masks, chosen)


def load_data(
    collection: Collection,
    stream: str,
    settings: Preprocessing,
    totals: dict[str, int] | None = None,
    seed: int = 2020,
    refit: bool = False,
) -> StreamData:
    """Slices that a stream learns from.

    Args:
        collection: The images.
        stream: One of `STREAMS`.
        settings: Preprocessing.
        totals: Images wanted in a subset, see `augment.expand`; the nodule stream, whose counts
            the paper does not give so, takes its slices as they are.
        seed: Of the copies.
        refit: Whether validation slices are among those that teach.

    Raises:
        DataError: The collection has no such slices.
    """
    names = NODULE_SETS if stream == "nodule" else LESION_SETS
    rows = collection.select(dataset=names)
    if not (rows["subset"] == "train").any():
        raise DataError(
            f"stream '{stream}' needs slices of {' or '.join(names)} to train on; "
            "add that data set (docs/data.md); a stream run by hand may start with init 'random'."
        )
    rows = splits.without_near_copies(rows)
    if refit:
        rows["subset"] = rows["subset"].replace("validation", "train")
    if stream != "nodule":
        rows["lung_pixels"] = lung_pixels(rows, collection, settings)
    images = cache.images(rows, collection.root, settings)
    masks = cache.masks(rows, collection.root, settings)
    if stream == "nodule" or not any((totals or {}).values()):
        return StreamData(rows, images, masks)
    rows = augment.expand(rows, totals, seed)
    # A copy is moved and zoomed, and so is its lung.
    rows["lung_pixels"] = rows["lung_pixels"].where(rows["copy"] == 0)
    copies = augment.copies(images, rows, seed)
    return StreamData(rows, copies, augment.copies(masks, rows, seed, is_mask=True))


def lung_pixels(rows: pd.DataFrame, collection: Collection, settings: Preprocessing) -> np.ndarray:
    """Size of each slice's lung field, int64 (n,), in pixels of the prepared slice.

    It is looked for before contrast is equalised, which moves the gray values of air and tissue,
    and in the whole slice, whose outside tells what is body.
    """
    whole = replace(settings, clahe_clip=0.0, crop="none")
    plain = cache.images(rows, collection.root, whole)
    found = []
    for index in range(len(rows)):
        field = lungs.lung_field(np.asarray(plain[index]))
        # A crop enlarges what it leaves.
        side = lungs.box(field)[2] if settings.crop == "lungs" else settings.size
        found.append(np.count_nonzero(field) * (settings.size / side) ** 2)
    return np.rint(found).astype(np.int64)


def to_targets(masks: np.ndarray, stream: str) -> np.ndarray:
    """Mask labels as the stream's class indices, uint8 of the same shape; 0 is background."""
    lookup = np.zeros(256, np.uint8)
    for index, labels in enumerate(STREAMS[stream].values()):
        lookup[list(labels)] = index
    return lookup[np.asarray(masks)]


def to_labels(classes: np.ndarray, stream: str) -> np.ndarray:
    """A stream's class indices as mask labels: what it calls 1 may be label 3 of the data set."""
    lookup = [labels[0] for labels in STREAMS[stream].values()]
    return np.array([0, *lookup[1:]], np.uint8)[classes]


def label_names(stream: str) -> dict[int, str]:
    """Mask label -> class, for the lesions that a stream outlines."""
    classes = STREAMS[stream].items()
    return {labels[0]: name for name, labels in classes if name != "background"}


def weights_path(profile: str, settings: StreamSettings, rows: pd.DataFrame) -> Path:
    """Where a stream's trained weights are kept: other settings, slices or code, another file.

    Args:
        profile: Profile of the run.
        settings: Settings of the stream.
        rows: Its slices.
    """
    code = runs.code_hash("data", "models", "training", without=("data/download.py",))
    text = json.dumps([asdict(settings), runs.data_hash(rows), code], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return paths.models(profile) / f"{settings.run_name}_{key}.weights.h5"


def nodule_settings(settings: StreamSettings) -> StreamSettings:
    """Settings of the nodule stream that a stream with ``init='nodule'`` starts from."""
    one = {"refit": False, "members": 1, "member": 0}
    return replace(settings, stream="nodule", init="random", weights="", **one)


def members_of(settings: StreamSettings) -> list[StreamSettings]:
    """Settings of each training that a stream's answer is averaged over."""
    return [replace(settings, members=1, member=number) for number in range(settings.members)]


def scored_classes(stream: str) -> dict[str, tuple[int, ...]]:
    """Classes that a stream is scored on: its own, and the extent where it knows all three."""
    return STREAMS[stream] | (LESION if stream == "all" else {})
