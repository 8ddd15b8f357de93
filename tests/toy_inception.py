"""A network of Inception-v3's input and four small blocks, in a thousandth of its time."""

import keras
import numpy as np

from covid_utils.models import inception

#: Channels of the blocks' maps, of side 4; two are alike.
BLOCKS = {"mixed0": 3, "mixed1": 5, "mixed2": 5, "mixed3": 6}


def network(weights="imagenet", last="mixed3", seed=6, calibrate=None, side=299):
    """Images to maps; a convolution and a batch norm in each block but the first."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((side, side, 3))
    out = keras.layers.AveragePooling2D(side // 4, name="mixed0")(image)
    for name, channels in list(BLOCKS.items())[1:]:
        out = keras.layers.Conv2D(channels, 3, padding="same", name=f"conv_{name}")(out)
        out = keras.layers.BatchNormalization(scale=False, name=f"norm_{name}")(out)
        out = keras.layers.Activation("tanh", name=name)(out)
    whole = keras.Model(image, out)
    model = keras.Model(image, whole.get_layer(last).output)
    rng = np.random.default_rng(8)
    for layer in model.layers:
        if layer.name.startswith("norm"):
            # Statistics that a training pass would change at once.
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    model.trainable = False
    return model


def install(patch, build=network):
    """Take it for Inception-v3."""
    patch.setattr(inception, "BLOCKS", BLOCKS)
    patch.setattr(inception, "FEATURE_LAYERS", tuple(BLOCKS))
    patch.setattr(inception, "network", build)
