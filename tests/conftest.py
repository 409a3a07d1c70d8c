"""Settings of the processes that run tests."""

import engines
import pytest


def pytest_configure(config):
    """Set up TensorFlow before it starts; a process that only hands out tests to others does without."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import tensorflow as tf

    # So that two replicas can be tested beside one. The default strategy uses the first of the two.
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # Bits depend on the number of threads.
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the examples of the docstrings, which cannot do so themselves; together they take a minute."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def digits():
    from masslib import data

    return data.load("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A network that knows the digits; tests leave it as it is."""
    from masslib import fit, models

    model = models.small_cnn(digits.input_shape, digits.num_classes)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    # So many epochs, or the averages of the batch normalization are still those of the start.
    fit(model, digits.train, batch_size=32, epochs=12, verbose=0)
    return model


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Version -> a package for the service; tests copy them."""
    import serving_packages

    return serving_packages.make(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def served(packages, tmp_path_factory):
    """A folder that the service can read, with one version of one model; tests leave it as it is."""
    import serving_packages

    folder = tmp_path_factory.mktemp("models")
    serving_packages.put(packages[1], folder, 1)
    return folder


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """A Spark session of this machine; the test is skipped where PySpark is not installed."""
    session = engines.spark_session(tmp_path_factory.mktemp("java"))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def ray():
    """Ray, connected to a new cluster of this machine; the test is skipped where it is not installed."""
    ray = engines.ray_cluster()
    yield ray
    ray.shutdown()
