"""U-Net (Ronneberger et al. 2015), the paper's baseline for segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


#: Name of the layer that depends on the number of classes; transfer leaves it out.
LOGITS = "logits"
DEPTH = 4


def unet(classes: int, size: int, base: int, momentum: float) -> keras.Model:
    """Build a U-Net with batch normalisation, of this ``momentum``, and same padding.

    The first level has ``base`` channels; each of the four levels below doubles them.

    Returns:
        Uncompiled model from gray images (n, size, size, 1) in [0, 255], their size a multiple of
        16, to float32 logits (n, size, size, classes).
    """
    import keras
    from keras import layers

    def double(tensor, channels: int, name: str):
        for number in (1, 2):
            part = f"{name}_conv{number}"
            tensor = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=part)(tensor)
            norm = layers.BatchNormalization(momentum=momentum, name=f"{part}_norm")
            tensor = layers.Activation("relu", name=f"{part}_relu")(norm(tensor))
        return tensor

    image = keras.Input((size, size, 1), name="image")
    skips, tensor = [], layers.Rescaling(1 / 127.5, offset=-1.0, name="to_unit")(image)
    for level in range(DEPTH):
        tensor = double(tensor, base * 2**level, f"down{level}")
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"down{level}_pool")(tensor)
    tensor = double(tensor, base * 2**DEPTH, "bottom")
    for level in reversed(range(DEPTH)):
        channels = base * 2**level
        up = layers.Conv2DTranspose(channels, 2, strides=2, name=f"up{level}_upsample")
        tensor = layers.Concatenate(name=f"up{level}_join")([skips[level], up(tensor)])
        tensor = double(tensor, channels, f"up{level}")
    logits = layers.Conv2D(classes, 1, name=LOGITS, dtype="float32")(tensor)
    return keras.Model(image, logits, name="unet")
