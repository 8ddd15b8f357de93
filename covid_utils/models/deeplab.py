"""DeepLab-v3+ with Aligned Xception-65 (Chen et al. 2018), the paper's network for segmentation.

Built from Keras's own layers and operations alone, so that a saved ``.keras`` file loads wherever
Keras is, in safe mode, without this package. The encoder is Chollet's Xception (2017) with three
changes: strided separable convolutions in place of max pooling, batch norm after every depthwise
convolution, and twice as many middle blocks. Its output stride is 16, as in the paper: where a
fifth halving would come, the convolutions that follow are dilated instead. Layers bear the names of
the published graph, with ``.`` for ``/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor


#: Layer that depends on the number of classes; transfer leaves it out.
LOGITS = "logits.semantic"
#: Published decay of the moving statistics of batch norm.
MOMENTUM = 0.9997
#: Layer whose output the decoder joins: the second separable convolution of entry block 2.
LOW_LEVEL = "entry_flow.block2.unit_1.separable_conv2_pointwise.BatchNorm"
#: Layer with features at half the input's size, before anything is averaged away.
STEM = "entry_flow.conv1_2.relu"


def deeplab_v3plus(
    num_classes: int,
    input_shape: tuple[int, int, int],
    atrous_rates: tuple[int, ...] = (6, 12, 18),
    width: float = 1.0,
    middle_blocks: int = 16,
    decoder_output_stride: int = 4,
    momentum: float = MOMENTUM,
) -> keras.Model:
    """Build the network; its weights fit any size, any values of the rates, any stride from 4 on.

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
    tensor = _xception65(tensor, width, middle_blocks, momentum)
    encoder = keras.Model(image, tensor)
    convolutions = Convolutions(width, momentum, epsilon=1e-5)
    tensor = _pyramid(tensor, atrous_rates, convolutions)
    # One decoder, as published; to answer every second pixel or every one, a second that joins the
    # stem. It has a quarter of the channels, since it has four or more times the pixels.
    stages = [("decoder", LOW_LEVEL, max(decoder_output_stride, 4), 256)]
    if decoder_output_stride <= 2:
        stages.append(("decoder_1", STEM, decoder_output_stride, 64))
    for name, layer, stride, depth in stages:
        size = tuple((side - 1) // stride + 1 for side in input_shape[:2])
        early = encoder.get_layer(layer).output
        tensor = _decoder(tensor, early, size, name, depth, convolutions)
    logits = layers.Conv2D(num_classes, 1, name=LOGITS, dtype="float32")(tensor)
    return keras.Model(image, logits, name="deeplab_v3plus")


def _xception65(
    tensor: KerasTensor, width: float, middle_blocks: int, momentum: float
) -> KerasTensor:
    """Append the encoder to images (n, height, width, 3) in [-1, 1]."""
    convolutions = Convolutions(width, momentum, epsilon=1e-3)
    tensor = convolutions.plain(tensor, 32, 3, "entry_flow.conv1_1", stride=2)
    tensor = convolutions.plain(tensor, 64, 3, "entry_flow.conv1_2")
    for block in blocks(middle_blocks):
        tensor = _block(block, tensor, convolutions)
    return tensor


def _block(block: Block, tensor: KerasTensor, convolutions: Convolutions) -> KerasTensor:
    from keras import layers

    residual, relu_inside = tensor, block.skip == "none"
    for number, depth in enumerate(block.depths, start=1):
        name = f"{block.name}.separable_conv{number}"
        if not relu_inside:
            residual = layers.ReLU(name=f"{name}.relu_before")(residual)
        step = block.stride if number == len(block.depths) else 1
        residual = convolutions.separable(residual, depth, name, step, block.rate, relu_inside)
    if relu_inside:
        return residual
    if block.skip == "conv":
        name = f"{block.name}.shortcut"
        tensor = convolutions.plain(tensor, block.depths[-1], 1, name, block.stride, relu=False)
    return layers.Add(name=f"{block.name}.sum")([residual, tensor])


def _pyramid(
    tensor: KerasTensor, rates: tuple[int, ...], convolutions: Convolutions
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
    convolutions: Convolutions,
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


class Block(NamedTuple):
    """One block of three separable convolutions; one without a shortcut has ReLU in between."""

    name: str
    depths: tuple[int, int, int]  # channels at width 1
    skip: str  # "conv" (1 x 1 convolution), "sum" (the input itself) or "none"
    stride: int = 1  # of the last convolution and the shortcut
    rate: int = 1  # of dilation


def blocks(middle_blocks: int) -> Iterator[Block]:
    """The blocks in order: three of the entry flow, the middle flow's, two of the exit flow."""
    for number, depth in enumerate((128, 256, 728), start=1):
        yield Block(f"entry_flow.block{number}.unit_1", (depth,) * 3, "conv", 2)
    for number in range(1, middle_blocks + 1):
        yield Block(f"middle_flow.block1.unit_{number}", (728,) * 3, "sum")
    yield Block("exit_flow.block1.unit_1", (728, 1024, 1024), "conv")
    yield Block("exit_flow.block2.unit_1", (1536, 1536, 2048), "none", rate=2)


@dataclass(frozen=True)
class Convolutions:
    """Convolutions with batch norm and, if wanted, ReLU, of one part of the network."""

    width: float  # factor of all channels
    momentum: float  # of batch norm
    epsilon: float  # of batch norm

    def scaled(self, channels: int) -> int:
        """Channels at this width: a multiple of 8, and at least 8; unchanged at width 1."""
        return channels if self.width == 1 else max(8, int(channels * self.width / 8 + 0.5) * 8)

    def plain(
        self,
        tensor: KerasTensor,
        channels: int,
        size: int,
        name: str,
        stride: int = 1,
        relu: bool = True,
    ) -> KerasTensor:
        """Append a convolution; ``channels`` are those at width 1."""
        from keras.layers import Conv2D

        convolution = partial(Conv2D, self.scaled(channels))
        return self._append(convolution, tensor, size, name, stride, relu)

    def separable(
        self,
        tensor: KerasTensor,
        channels: int,
        name: str,
        stride: int = 1,
        rate: int = 1,
        relu: bool = True,
    ) -> KerasTensor:
        """Append a 3 x 3 depthwise and a 1 x 1 pointwise convolution."""
        from keras.layers import DepthwiseConv2D

        depthwise = partial(DepthwiseConv2D, dilation_rate=rate)
        tensor = self._append(depthwise, tensor, 3, f"{name}_depthwise", stride, relu)
        return self.plain(tensor, channels, 1, f"{name}_pointwise", relu=relu)

    def _append(
        self,
        kind: Callable[..., keras.Layer],
        tensor: KerasTensor,
        size: int,
        name: str,
        stride: int,
        relu: bool,
    ) -> KerasTensor:
        from keras import layers

        padding = "same"
        if stride > 1 and size > 1:
            # Explicit before a strided convolution: "same" would shift even sizes by a pixel.
            tensor, padding = layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(tensor), "valid"
        options = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
        tensor = kind(kernel_size=size, **options)(tensor)
        norm = {"momentum": self.momentum, "epsilon": self.epsilon}
        tensor = layers.BatchNormalization(**norm, name=f"{name}.BatchNorm")(tensor)
        return layers.ReLU(name=f"{name}.relu")(tensor) if relu else tensor


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
