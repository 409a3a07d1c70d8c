"""What `diagnose` foretells."""

import keras
import pytest
from keras import layers

import masslib
from masslib import models


def test_every_layer_gets_a_verdict_and_a_reason():
    table = masslib.diagnose(models.small_cnn((8, 8, 1), 10))
    assert list(table.columns) == [
        *("type", "weights", "share", "bridges", "prunes", "clusters", "quantizes", "factorizes", "why_not"),
    ]
    assert list(table.index[:3]) == ["conv1", "norm1", "relu1"]
    assert table["bridges"].all()
    assert table["quantizes"].all()
    assert list(table.index[table["prunes"]]) == ["conv2", "dense1", "dense2"] == list(table.index[table["clusters"]])
    assert list(table.index[table["factorizes"]]) == ["conv2", "dense1", "dense2"]
    assert (
        table.loc["conv1", "why_not"]
        == "prune, cluster, factorize: holds 0.06% of the weights, less than min_share=1.00%"
    )
    assert table["share"].sum() == pytest.approx(1)
    assert masslib.diagnose(models.small_cnn((8, 8, 1), 10), min_share=0).loc["conv1", "prunes"]


def test_normalization_is_quantized_only_where_it_folds_into_the_layer_before():
    image = keras.Input((8, 8, 1))
    x = layers.BatchNormalization(name="first")(image)
    x = layers.BatchNormalization(name="after_relu")(layers.Conv2D(4, 3, activation="relu", name="relu_conv")(x))
    fork = layers.Conv2D(4, 3, name="fork")(x)
    x = layers.Add()([fork, layers.BatchNormalization(name="after_fork")(fork)])
    x = layers.BatchNormalization(name="folded")(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.BatchNormalization(name="dense_norm")(layers.Dense(4, name="dense")(layers.Flatten()(x)))
    table = masslib.diagnose(keras.Model(image, x))
    assert set(table.index[~table["quantizes"]]) == {"first", "after_relu", "after_fork"}
    why = table["why_not"]
    assert why["first"] == "quantize: quantization needs it right behind one of Conv2D, DepthwiseConv2D, Dense"
    assert "'relu_conv' before it has an activation (relu); move that behind" in why["after_relu"]
    assert why["after_fork"] == "quantize: 'fork' before it feeds other layers too"
    assert why["depthwise"].startswith("prune, cluster: depthwise kernels are small")


def test_a_layer_that_does_not_bridge_keeps_out_the_whole_model():
    inner = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x, name="odd")], name="inner")
    table = masslib.diagnose(keras.Sequential([keras.Input((4,)), inner, layers.Dense(2, name="top")]))
    assert table["bridges"].to_dict() == {"inner/odd": False, "top": True}
    assert not table[["prunes", "clusters", "quantizes"]].to_numpy().any()
    assert "bridge: Lambda: " in table.loc["inner/odd", "why_not"]
    assert table.loc["top", "why_not"] == "prune, cluster, quantize: the model does not bridge, because of inner/odd"


def test_a_model_without_weights_has_verdicts_too():
    table = masslib.diagnose(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(name="flat")]))
    assert table.loc["flat", "bridges"] and not table.loc["flat", "prunes"]


def test_models_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="expected a Keras 3 model, got builtins.str"):
        masslib.diagnose("model")


@pytest.mark.slow
def test_layers_that_tflite_has_no_operator_for_are_told_beforehand(tmp_path):
    image = keras.Input((4, 4, 4, 2))
    pooled = keras.layers.MaxPooling3D(2, name="pool")(keras.layers.Conv3D(3, 2, padding="same", name="conv")(image))
    model = keras.Model(image, keras.layers.Dense(2, name="top")(keras.layers.Flatten(name="flat")(pooled)))
    table = masslib.diagnose(model, tflite=True)
    assert table.index[~table["converts"]].to_list() == ["pool"]
    assert "tflite: TFLite has no operator for MaxPool3D" in table.loc["pool", "why_not"]
    with pytest.raises(ValueError, match=r"MaxPool3D \(layer 'pool'\)"):
        masslib.export.tflite(model, tmp_path / "model.tflite")
    assert masslib.diagnose(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), tflite=True)["converts"].all()
