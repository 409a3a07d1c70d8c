"""Backbones of keras_hub with small settings; none where it is not installed."""

from __future__ import annotations

import importlib.util

import keras
from keras import layers

from zoo.network import classifier, ids, images, network

INSTALLED = importlib.util.find_spec("keras_hub") is not None
WORDS, LENGTH = 60, 12


def _text(rng):
    x = {"token_ids": ids(rng, WORDS, LENGTH), "padding_mask": ids(rng, WORDS, LENGTH) > 0}
    return x, ids(rng, 4)


def _photos(rng):
    return images(rng, 32, 32, 3), ids(rng, 4)


if INSTALLED:
    import keras_hub

    @network(lambda rng: ({**_text(rng)[0], "segment_ids": ids(rng, 2, LENGTH)}, ids(rng, 4)))
    def hub_bert():
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=WORDS,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
            max_sequence_length=LENGTH,
        )
        return classifier(backbone.input, layers.Dense(4, activation="softmax")(backbone.output["pooled_output"]))

    @network(lambda rng: (_text(rng)[0], ids(rng, WORDS, LENGTH)))
    def hub_gpt2():
        backbone = keras_hub.models.GPT2Backbone(
            vocabulary_size=WORDS,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
            max_sequence_length=LENGTH,
        )
        logits = backbone.token_embedding(backbone.output, reverse=True)
        return classifier(backbone.input, logits, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    @network(_photos)
    def hub_vit():
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
        )
        return classifier(backbone.input, layers.Dense(4, activation="softmax")(backbone.output[:, 0]))

    @network(_photos)
    def hub_resnet():
        backbone = keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64, 64],
            stackwise_num_blocks=[1, 1],
            stackwise_num_strides=[1, 2],
            block_type="basic_block",
            image_shape=(32, 32, 3),
        )
        x = layers.GlobalAveragePooling2D()(backbone.output)
        return classifier(backbone.input, layers.Dense(4, activation="softmax")(x))

    @network(_photos)
    def hub_mobilenet():
        backbone = keras_hub.models.MobileNetBackbone(
            stackwise_expansion=[[8, 16], [16, 24]],
            stackwise_num_blocks=[2, 2],
            stackwise_num_filters=[[8, 8], [12, 12]],
            stackwise_kernel_size=[[3, 3], [5, 5]],
            stackwise_num_strides=[[2, 1], [2, 1]],
            stackwise_se_ratio=[[None, None], [0.25, 0.25]],
            stackwise_activation=[["relu6", "relu6"], ["hard_swish", "hard_swish"]],
            stackwise_padding=[[1, 1], [2, 2]],
            output_num_filters=16,
            depthwise_filters=8,
            depthwise_stride=2,
            depthwise_residual=False,
            squeeze_and_excite=None,
            last_layer_filter=32,
            input_num_filters=8,
            input_activation="hard_swish",
            output_activation="hard_swish",
            image_shape=(32, 32, 3),
        )
        x = layers.GlobalAveragePooling2D()(backbone.output)
        return classifier(backbone.input, layers.Dense(4, activation="softmax")(x))
