"""Aligned Xception-65, the encoder of DeepLab-v3+ (Chen et al. 2018, figure 4).

It is Chollet's Xception (2017) with three changes: strided separable convolutions in place of max
pooling, batch norm after every depthwise convolution, and twice as many middle blocks. Its output
stride is 16, as in the paper: where a fifth halving would come, the convolutions that follow are
dilated instead (atrous convolution). Layers bear the names of the published graph, with ``.`` for
``/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
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

        return self._append(Conv2D, tensor, size, name, stride, relu, self.scaled(channels))

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

    def _append(self, kind, tensor, size: int, name: str, stride: int, relu: bool, *channels: int):
        from keras import layers

        padding = "same"
        if stride > 1 and size > 1:
            # Explicit before a strided convolution: "same" would shift even sizes by a pixel.
            tensor, padding = layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(tensor), "valid"
        options = {"strides": stride, "padding": padding, "use_bias": False, "name": name}
        tensor = kind(*channels, size, **options)(tensor)
        norm = {"momentum": self.momentum, "epsilon": self.epsilon}
        tensor = layers.BatchNormalization(**norm, name=f"{name}.BatchNorm")(tensor)
        return layers.ReLU(name=f"{name}.relu")(tensor) if relu else tensor


def xception65(
    tensor: KerasTensor, width: float, middle_blocks: int, momentum: float
) -> KerasTensor:
    """Append the encoder to images (n, height, width, 3) in [-1, 1]; see `deeplab_v3plus`."""
    convolutions = Convolutions(width, momentum, epsilon=1e-3)
    tensor = convolutions.plain(tensor, 32, 3, "entry_flow.conv1_1", stride=2)
    tensor = convolutions.plain(tensor, 64, 3, "entry_flow.conv1_2")
    for block in blocks(middle_blocks):
        tensor = _append(block, tensor, convolutions)
    return tensor


def _append(block: Block, tensor: KerasTensor, convolutions: Convolutions) -> KerasTensor:
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
