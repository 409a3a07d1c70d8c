"""One training loop for Keras 3 models, on one device and on several."""

from masslib._util.extras import needed_by

with needed_by(__name__):
    from masslib.train.compiled_metrics import evaluate_compiled
    from masslib.train.loop import fit
    from masslib.train.schedule import scaled_schedule

__all__ = ["evaluate_compiled", "fit", "scaled_schedule"]
