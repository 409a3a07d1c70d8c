import pytest
import tensorflow as tf

import masslib


@pytest.mark.parametrize("kind", ["auto", "default"])
def test_one_device_gets_the_default_strategy_and_says_so(kind, caplog):
    if len(tf.config.list_physical_devices("GPU")) > 1 and kind == "auto":
        pytest.skip("with several GPUs auto picks the mirrored strategy")
    strategy = masslib.strategy(kind)
    assert strategy.num_replicas_in_sync == 1
    assert caplog.messages[-1].startswith("default strategy, 1 replica on ")


def test_unknown_strategies_are_refused():
    with pytest.raises(
        ValueError, match=r"strategy\('horovod'\): unknown kind; choose one of 'auto', 'default', 'mirrored'"
    ):
        masslib.strategy("horovod")


@pytest.mark.parametrize("devices", [None, 2, ["CPU:0", "CPU:1"]])
def test_mirrored_makes_replicas_of_logical_cpus(devices, caplog):
    if devices is None and tf.config.list_physical_devices("GPU"):
        pytest.skip("the default is all GPUs where there are any")
    strategy = masslib.strategy("mirrored", devices=devices)
    assert strategy.num_replicas_in_sync == 2
    assert caplog.messages[-1].startswith("mirrored strategy, 2 replicas on ")


def test_the_logger_of_tensorflow_is_left_as_it_was_found(digits):
    logger = tf.get_logger()
    before = logger.level, list(logger.handlers)
    strategy = masslib.strategy("mirrored", devices=2)
    assert (logger.level, logger.handlers) == before
    with strategy.scope():
        model = masslib.models.mlp((8, 8, 1), 10, hidden=(4,))
        model.compile("sgd", "sparse_categorical_crossentropy")
    masslib.fit(model, digits.test.take(40), batch_size=20, verbose=0)
    assert (logger.level, logger.handlers) == before


def test_the_same_devices_get_the_same_strategy():
    """Two of them in one process would mix up their collectives."""
    assert masslib.strategy("mirrored", devices=2) is masslib.strategy("mirrored", devices=["CPU:0", "CPU:1"])


def test_devices_that_cannot_be_had_are_refused():
    with pytest.raises(ValueError, match=r"strategy\('default', devices=2\): devices are chosen for 'mirrored' only"):
        masslib.strategy("default", devices=2)
    with pytest.raises(ValueError, match="communication is chosen for 'multi_worker' only"):
        masslib.strategy("mirrored", communication="ring")
    with pytest.raises(ValueError, match="devices='GPU:0': expected a number or names such as"):
        masslib.strategy("mirrored", devices="GPU:0")
    with pytest.raises(ValueError, match=r"devices=\[\]: expected a number or names such as"):
        masslib.strategy("mirrored", devices=[])
    with pytest.raises(ValueError, match="devices=0: "):
        masslib.strategy("mirrored", devices=0)
    with pytest.raises(RuntimeError, match="TensorFlow has already started; restart the kernel and call"):
        masslib.strategy("mirrored", devices=["CPU:0", "CPU:9"])
