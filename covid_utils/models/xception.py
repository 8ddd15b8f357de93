"""Aligned Xception-65, the encoder of DeepLab-v3+ (Chen et al. 2018, figure 4).

It is Chollet's Xception (2017) with three changes: strided separable convolutions in place of max
pooling, batch norm after every depthwise convolution, and twice as many middle blocks. Layers bear
the names of the published TensorFlow 1 graph with ``.`` for ``/``, so that a checkpoint of it can
be read (`models.checkpoints.assign_tf1`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from covid_utils.errors import ParameterError

if TYPE_CHECKING:
    from keras import KerasTensor

EPSILON = 1e-3
#: Published decay of the moving statistics of batch norm.
MOMENTUM = 0.9997
#: Layer whose output the decoder joins: the second separable convolution of entry block 2.
LOW_LEVEL = "entry_flow.block2.unit_1.separable_conv2_pointwise.BatchNorm"
#: Layer with features at half the input's size, before anything is averaged away.
STEM = "entry_flow.conv1_2.relu"


@dataclass(frozen=True)
class Block:
    """One block of three separable convolutions.

    Attributes:
        name: Its place, such as ``entry_flow.block1.unit_1``.
        depths: Channels of its three convolutions at width 1.
        skip: ``conv`` (1 x 1 convolution), ``sum`` (the input itself) or ``none``.
        stride: Of the last convolution and the shortcut, before atrous convolution replaces it.
        relu_inside: Whether ReLU follows each batch norm; else one precedes each convolution.
    """

    name: str
    depths: tuple[int, int, int]
    skip: str
    stride: int = 1
    relu_inside: bool = False


def blocks(middle_blocks: int = 16) -> Iterator[Block]:
    """The blocks in order: three of the entry flow, the middle flow's, two of the exit flow."""
    for number, depth in enumerate((128, 256, 728), start=1):
        yield Block(f"entry_flow.block{number}.unit_1", (depth,) * 3, "conv", 2)
    for number in range(1, middle_blocks + 1):
        yield Block(f"middle_flow.block1.unit_{number}", (728,) * 3, "sum")
    yield Block("exit_flow.block1.unit_1", (728, 1024, 1024), "conv", 2)
    yield Block("exit_flow.block2.unit_1", (1536, 1536, 2048), "none", relu_inside=True)


def scaled(channels: int, width: float) -> int:
    """Channels at another width: a multiple of 8, and at least 8; unchanged at width 1."""
    return channels if width == 1 else max(8, int(channels * width / 8 + 0.5) * 8)


def norm(tensor: KerasTensor, name: str, epsilon: float, momentum: float) -> KerasTensor:
    """Batch norm, named after the convolution before it."""
    from keras import layers

    options = {"epsilon": epsilon, "momentum": momentum, "name": f"{name}.BatchNorm"}
    return layers.BatchNormalization(**options)(tensor)


def convolution(
    tensor: KerasTensor,
    channels: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    relu: bool = True,
    epsilon: float = EPSILON,
    momentum: float = MOMENTUM,
) -> KerasTensor:
    """Convolution, batch norm and, if wanted, ReLU; stride 2 pads both sides alike."""
    from keras import layers

    tensor, padding = _padded(tensor, size, stride, name)
    options = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
    tensor = layers.Conv2D(channels, size, **options)(tensor)
    tensor = norm(tensor, name, epsilon, momentum)
    return layers.ReLU(name=f"{name}.relu")(tensor) if relu else tensor


def separable(
    tensor: KerasTensor,
    channels: int,
    name: str,
    *,
    stride: int = 1,
    rate: int = 1,
    relu: bool = True,
    epsilon: float = EPSILON,
    momentum: float = MOMENTUM,
) -> KerasTensor:
    """3 x 3 depthwise and 1 x 1 pointwise convolution, batch norm (and ReLU) after each."""
    from keras import layers

    depthwise = f"{name}_depthwise"
    tensor, padding = _padded(tensor, 3, stride, depthwise)
    options = {"strides": stride, "padding": padding, "dilation_rate": rate, "use_bias": False}
    tensor = layers.DepthwiseConv2D(3, **options, name=depthwise)(tensor)
    tensor = norm(tensor, depthwise, epsilon, momentum)
    if relu:
        tensor = layers.ReLU(name=f"{depthwise}.relu")(tensor)
    settings = {"relu": relu, "epsilon": epsilon, "momentum": momentum}
    return convolution(tensor, channels, 1, f"{name}_pointwise", **settings)


def _padded(tensor: KerasTensor, size: int, stride: int, name: str) -> tuple[KerasTensor, str]:
    """Explicit padding before a strided convolution: ``same`` would shift even sizes by a pixel."""
    from keras import layers

    if stride == 1 or size == 1:
        return tensor, "same"
    return layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(tensor), "valid"


def xception65(
    tensor: KerasTensor,
    output_stride: int = 16,
    width: float = 1.0,
    middle_blocks: int = 16,
    momentum: float = MOMENTUM,
) -> KerasTensor:
    """Append the encoder to a tensor.

    Once the output stride is reached, blocks that would halve the image dilate the convolutions of
    those after them instead (atrous convolution).

    Args:
        tensor: Images (n, height, width, 3) in [-1, 1].
        output_stride: Pixels of the input per step of the output: 8, 16 or 32.
        width: Factor of all channels; the published network has 1.
        middle_blocks: Blocks of the middle flow; Xception-65 has 16.
        momentum: Of batch norm.

    Returns:
        Features (n, ceil(height / output_stride), ceil(width / output_stride), 2048 x width).

    Raises:
        ParameterError: Another output stride, or no width.
    """
    if output_stride not in (8, 16, 32):
        raise ParameterError(f"output_stride {output_stride} is none of 8, 16, 32.")
    if width <= 0 or middle_blocks < 0:
        raise ParameterError(f"width {width}, middle_blocks {middle_blocks}: too small.")
    for number, (depth, stride) in enumerate(((32, 2), (64, 1)), start=1):
        settings = {"stride": stride, "momentum": momentum}
        name = f"entry_flow.conv1_{number}"
        tensor = convolution(tensor, scaled(depth, width), 3, name, **settings)
    reached, rate = 2, 1
    for block in blocks(middle_blocks):
        is_atrous = reached == output_stride
        stride = 1 if is_atrous else block.stride
        tensor = _module(tensor, block, stride, rate, width, momentum)
        if is_atrous:
            rate *= block.stride
        reached *= stride
    return tensor


def _module(
    tensor: KerasTensor, block: Block, stride: int, rate: int, width: float, momentum: float
) -> KerasTensor:
    """One block; its stride is on the last separable convolution."""
    from keras import layers

    residual = tensor
    for number, depth in enumerate(block.depths, start=1):
        name = f"{block.name}.separable_conv{number}"
        if not block.relu_inside:
            residual = layers.ReLU(name=f"{name}.relu_before")(residual)
        settings = {"rate": rate, "relu": block.relu_inside, "momentum": momentum}
        step = stride if number == len(block.depths) else 1
        residual = separable(residual, scaled(depth, width), name, stride=step, **settings)
    if block.skip == "none":
        return residual
    if block.skip == "conv":
        settings = {"stride": stride, "relu": False, "momentum": momentum}
        depth = scaled(block.depths[-1], width)
        tensor = convolution(tensor, depth, 1, f"{block.name}.shortcut", **settings)
    return layers.Add(name=f"{block.name}.sum")([residual, tensor])
