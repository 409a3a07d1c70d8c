"""TensorFlow's logger is silent where it has to be, and afterwards as it was."""

import importlib
import logging
import threading

import pytest
import tensorflow as tf

from masslib._util.quiet import quiet_logger, root_logger_kept


@pytest.fixture
def heard():
    """What reaches the handlers of TensorFlow's logger."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = tf.get_logger()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def _state():
    logger = tf.get_logger()
    return logger.level, list(logger.filters), logger.disabled, logger.propagate


def test_only_errors_pass(heard):
    with quiet_logger(), quiet_logger():
        tf.get_logger().warning("a warning")
        tf.get_logger().error("an error")
    tf.get_logger().warning("another warning")
    assert heard == ["an error", "another warning"]


def test_it_is_left_as_it_was_after_an_error(heard):
    before = _state()
    with pytest.raises(KeyError), quiet_logger():
        raise KeyError
    assert _state() == before


def test_it_is_left_as_it_was_where_threads_overlap(heard):
    """The first to enter leaves first."""
    before, entered, left = _state(), threading.Event(), threading.Event()

    def first():
        with quiet_logger():
            entered.set()
            inside.wait(30)
        left.set()

    inside = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(30)
    with quiet_logger():
        inside.set()
        assert left.wait(30)
        tf.get_logger().warning("a warning")
    thread.join()
    assert _state() == before
    assert heard == []


def test_a_level_that_is_set_inside_stays(heard):
    logger = tf.get_logger()
    before = logger.level
    try:
        with quiet_logger():
            logger.setLevel("CRITICAL")
        assert logger.level == logging.CRITICAL
    finally:
        logger.setLevel(before)


def test_the_handler_of_absl_is_taken_away_and_others_stay():
    absl_logging = importlib.import_module("absl.logging")  # comes with TensorFlow
    root, own, theirs = logging.getLogger(), logging.NullHandler(), absl_logging.get_absl_handler()
    there, before = theirs in root.handlers, [handler for handler in root.handlers if handler is not theirs]
    root.removeHandler(theirs)
    try:
        with root_logger_kept():
            absl_logging.use_absl_handler()
            root.addHandler(own)
            assert {theirs, own} <= set(root.handlers)
        assert root.handlers == [*before, own]
        root.addHandler(theirs)
        with root_logger_kept():  # somebody else wanted it before
            pass
        assert theirs in root.handlers
    finally:
        root.removeHandler(own)
        if not there:
            root.removeHandler(theirs)
