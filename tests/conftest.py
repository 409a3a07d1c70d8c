"""Settings of the test process, made before TensorFlow starts."""

import tensorflow as tf

# So that two replicas can be tested beside one. The default strategy uses the first of the two.
(_cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(_cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
# Bits depend on the number of threads.
tf.config.threading.set_intra_op_parallelism_threads(2)
tf.config.threading.set_inter_op_parallelism_threads(2)
