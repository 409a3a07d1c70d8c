"""What clients speak: the Open Inference Protocol, TensorFlow Serving's REST, and photos for people."""
