"""Aligned Xception-65, the encoder of DeepLab-v3+ (Chen et al. 2018, figure 4).

It is Chollet's Xception (2017) with three changes: strided separable convolutions in place of max
pooling, batch norm after every depthwise convolution, and twice as many middle blocks. Layers bear
the names of the published TensorFlow 1 graph with ``.`` for ``/``, so that a checkpoint of it can
be read (`models.tf1`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from keras import KerasTensor


#: Published decay of the moving statistics of batch norm.
MOMENTUM = 0.9997
#: Layer whose output the decoder joins: the second separable convolution of entry block 2.
LOW_LEVEL = "entry_flow.block2.unit_1.separable_conv2_pointwise.BatchNorm"
#: Layer with features at half the input's size, before anything is averaged away.
STEM = "entry_flow.conv1_2.relu"


class Block(NamedTuple):
    """One block of three separable convolutions; one without a shortcut has ReLU in between."""

    name: str
    depths: tuple[int, int, int]  # channels at width 1
    skip: str  # "conv" (1 x 1 convolution), "sum" (the input itself) or "none"
    stride: int = 1  # of the last convolution and the shortcut, if not atrous


def blocks(middle_blocks: int) -> Iterator[Block]:
    """The blocks in order: three of the entry flow, the middle flow's, two of the exit flow."""
    for number, depth in enumerate((128, 256, 728), start=1):
        yield Block(f"entry_flow.block{number}.unit_1", (depth,) * 3, "conv", 2)
    for number in range(1, middle_blocks + 1):
        yield Block(f"middle_flow.block1.unit_{number}", (728,) * 3, "sum")
    yield Block("exit_flow.block1.unit_1", (728, 1024, 1024), "conv", 2)
    yield Block("exit_flow.block2.unit_1", (1536, 1536, 2048), "none")


def scaled(channels: int, width: float) -> int:
    """Channels at another width: a multiple of 8, and at least 8; unchanged at width 1."""
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)


def convolution(
    tensor: KerasTensor,
    channels: int,
    size: int,
    name: str,
    norm: dict[str, float],
    stride: int = 1,
    relu: bool = True,
) -> KerasTensor:
    """Convolution, batch norm (``norm`` has its epsilon and momentum) and, if wanted, ReLU."""
    from keras import layers

    tensor, padding = _padded(tensor, size, stride, name)
    options = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
    tensor = layers.Conv2D(channels, size, **options)(tensor)
    return _normed(tensor, name, norm, relu)


def separable(
    tensor: KerasTensor,
    channels: int,
    name: str,
    norm: dict[str, float],
    stride: int = 1,
    rate: int = 1,
    relu: bool = True,
) -> KerasTensor:
    """3 x 3 depthwise and 1 x 1 pointwise convolution, batch norm (and ReLU) after each."""
    from keras import layers

    depthwise = f"{name}_depthwise"
    tensor, padding = _padded(tensor, 3, stride, depthwise)
    options = {"strides": stride, "padding": padding, "dilation_rate": rate, "use_bias": False}
    tensor = layers.DepthwiseConv2D(3, **options, name=depthwise)(tensor)
    tensor = _normed(tensor, depthwise, norm, relu)
    return convolution(tensor, channels, 1, f"{name}_pointwise", norm, relu=relu)


def _normed(tensor: KerasTensor, name: str, norm: dict[str, float], relu: bool) -> KerasTensor:
    from keras import layers

    tensor = layers.BatchNormalization(**norm, name=f"{name}.BatchNorm")(tensor)
    return layers.ReLU(name=f"{name}.relu")(tensor) if relu else tensor


def _padded(tensor: KerasTensor, size: int, stride: int, name: str) -> tuple[KerasTensor, str]:
    # Explicit before a strided convolution: "same" would shift even sizes by a pixel.
    from keras import layers

    if stride == 1 or size == 1:
        return tensor, "same"
    return layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(tensor), "valid"


def xception65(
    tensor: KerasTensor, output_stride: int, width: float, middle_blocks: int, momentum: float
) -> KerasTensor:
    """Append the encoder to images (n, height, width, 3) in [-1, 1].

    Once the output stride is reached, blocks that would halve the image dilate the convolutions of
    those after them instead (atrous convolution). Parameters are those of `deeplab_v3plus`.
    """
    norm = {"epsilon": 1e-3, "momentum": momentum}
    for number, (depth, stride) in enumerate(((32, 2), (64, 1)), start=1):
        name = f"entry_flow.conv1_{number}"
        tensor = convolution(tensor, scaled(depth, width), 3, name, norm, stride)
    reached, rate = 2, 1
    for block in blocks(middle_blocks):
        is_atrous = reached == output_stride
        stride = 1 if is_atrous else block.stride
        tensor = _module(tensor, block, stride, rate, width, norm)
        if is_atrous:
            rate *= block.stride
        reached *= stride
    return tensor


def _module(
    tensor: KerasTensor, block: Block, stride: int, rate: int, width: float, norm: dict
) -> KerasTensor:
    from keras import layers

    residual, relu_inside = tensor, block.skip == "none"
    for number, depth in enumerate(block.depths, start=1):
        name = f"{block.name}.separable_conv{number}"
        if not relu_inside:
            residual = layers.ReLU(name=f"{name}.relu_before")(residual)
        step = stride if number == len(block.depths) else 1
        residual = separable(residual, scaled(depth, width), name, norm, step, rate, relu_inside)
    if relu_inside:
        return residual
    if block.skip == "conv":
        depth, name = scaled(block.depths[-1], width), f"{block.name}.shortcut"
        tensor = convolution(tensor, depth, 1, name, norm, stride, relu=False)
    return layers.Add(name=f"{block.name}.sum")([residual, tensor])
