"""DeepLab-v3+ with Aligned Xception-65 (Chen et al. 2018), the paper's network for segmentation.

Built from Keras's own layers and operations alone, so that a saved ``.keras`` file loads wherever
Keras is, in safe mode, without this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from covid_utils.models import xception

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor


#: Layer that depends on the number of classes; transfer leaves it out.
LOGITS = "logits.semantic"


def deeplab_v3plus(
    num_classes: int,
    input_shape: tuple[int, int, int],
    atrous_rates: tuple[int, ...] = (6, 12, 18),
    width: float = 1.0,
    middle_blocks: int = 16,
    decoder_output_stride: int = 4,
    momentum: float = xception.MOMENTUM,
) -> keras.Model:
    """Build the network; no weight depends on the size, the stride's or the rates' values.

    Args:
        num_classes: Background included.
        input_shape: Height, width and 3 channels. With sizes of a multiple of 16 plus one, such as
            the published 513, corners of all resolutions align.
        atrous_rates: Of the spatial pyramid's 3 x 3 convolutions.
        width: Factor of all channels.
        middle_blocks: Blocks of the middle flow.
        decoder_output_stride: Pixels of the input per pixel of the logits, at most 16.
        momentum: Of batch norm; with the published one, statistics of short runs lag behind.

    Returns:
        Uncompiled model from images (n, height, width, 3) in [0, 255] to float32 logits (n, rows,
        columns, num_classes), with rows = floor((height - 1) / decoder_output_stride) + 1.
    """
    import keras
    from keras import layers

    image = keras.Input(input_shape, name="image")
    tensor = layers.Rescaling(1 / 127.5, offset=-1.0, name="to_unit")(image)
    tensor = xception.xception65(tensor, width, middle_blocks, momentum)
    encoder = keras.Model(image, tensor)
    convolutions = xception.Convolutions(width, momentum, epsilon=1e-5)
    tensor = _pyramid(tensor, atrous_rates, convolutions)
    # One decoder, as published; to answer every second pixel or every one, a second that joins the
    # stem. It has a quarter of the channels, since it has four or more times the pixels.
    stages = [("decoder", xception.LOW_LEVEL, max(decoder_output_stride, 4), 256)]
    if decoder_output_stride <= 2:
        stages.append(("decoder_1", xception.STEM, decoder_output_stride, 64))
    for name, layer, stride, depth in stages:
        size = tuple((side - 1) // stride + 1 for side in input_shape[:2])
        early = encoder.get_layer(layer).output
        tensor = _decoder(tensor, early, size, name, depth, convolutions)
    logits = layers.Conv2D(num_classes, 1, name=LOGITS, dtype="float32")(tensor)
    return keras.Model(image, logits, name="deeplab_v3plus")


def _pyramid(
    tensor: KerasTensor, rates: tuple[int, ...], convolutions: xception.Convolutions
) -> KerasTensor:
    from keras import layers

    mean = layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling.mean")(tensor)
    mean = convolutions.plain(mean, 256, 1, "image_pooling")
    branches = [layers.UpSampling2D(tensor.shape[1:3], name="image_pooling.spread")(mean)]
    branches.append(convolutions.plain(tensor, 256, 1, "aspp0"))
    for number, rate in enumerate(rates, start=1):
        branches.append(convolutions.separable(tensor, 256, f"aspp{number}", rate=rate))
    joined = layers.Concatenate(name="concat")(branches)
    joined = convolutions.plain(joined, 256, 1, "concat_projection")
    return layers.Dropout(0.1, name="dropout")(joined)


def _decoder(
    tensor: KerasTensor,
    early: KerasTensor,
    size: tuple[int, int],
    name: str,
    depth: int,
    convolutions: xception.Convolutions,
) -> KerasTensor:
    """Join what is known so far, enlarged, with early features, and refine both."""
    from keras import layers

    if tensor.shape[-1] > convolutions.scaled(depth):  # fewer before they are enlarged
        tensor = convolutions.plain(tensor, depth, 1, f"{name}.projection")
    early = convolutions.plain(early, 48, 1, f"{name}.feature_projection0")
    parts = [resize_aligned(part, size) for part in (tensor, early)]
    tensor = layers.Concatenate(name=f"{name}.concat")(parts)
    for number in (0, 1):
        tensor = convolutions.separable(tensor, depth, f"{name}.decoder_conv{number}")
    return tensor


def resize_aligned(tensor, size: tuple[int, int]):
    """Bilinear resizing whose corner pixels stay at the corners, as the published graph does it.

    Keras's own resizing aligns the outer edges of the corner pixels instead, which moves everything
    by up to half a pixel. ``tensor`` is (n, height, width, channels), ``size`` height and width.
    """
    from keras import ops

    patterns = "ij,bjwc->biwc", "ij,bhjc->bhic"
    for source, target, pattern in zip(tensor.shape[1:3], size, patterns, strict=True):
        if source != target:
            at = np.linspace(0, source - 1, target)
            columns = [np.interp(at, np.arange(source), one) for one in np.eye(source)]
            tensor = ops.einsum(pattern, np.stack(columns, axis=1).astype(np.float32), tensor)
    return tensor
