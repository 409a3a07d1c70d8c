"""Estimators of scikit-learn's kind as ONNX files, which hold no pickle and run without scikit-learn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from masslib import runtime
from masslib._util.extras import needed_by
from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib._util.messages import first_line

_OPSET = 18
_ROWS = 64
# Thresholds of trees and distances of neighbours are rounded to float32, so that single rows may fall otherwise.
_ALLOWED = 5e-3


def estimator(model: Any, path: Path, columns: np.ndarray) -> Path:
    """Write the probabilities of an estimator as an ONNX file, and check it.

    Args:
        model: A trained estimator, or a `Pipeline`, with `predict_proba`.
        path: The file.
        columns: Some rows `(n, columns)` to check it on.

    Raises:
        ModuleNotFoundError: If the extra `estimators` is not installed.
        ValueError: If skl2onnx cannot write it, or the file answers otherwise.

    References:
        sklearn-onnx, "Convert a pipeline".
    """
    with needed_by(f"the ONNX file of a {type(model).__name__}"):
        import onnx
        import skl2onnx
        from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    columns = np.asarray(columns[:_ROWS], np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = skl2onnx.to_onnx(model, columns[:1], options={"zipmap": False}, target_opset=_OPSET)
            graph = select_model_inputs_outputs(graph, graph.graph.output[1].name)
    except Exception as error:  # it has many
        raise ValueError(
            f"skl2onnx {skl2onnx.__version__} cannot write a {type(model).__name__} with the releases that are "
            f"installed: {first_line(error)[:200]}; take another estimator, or pass the path of an ONNX file that you "
            "have made of it (onnxmltools does for XGBoost and LightGBM)"
        ) from error
    onnx.helper.set_model_props(graph, {"masslib_sha256": BLANK_SEAL.decode()})
    with replacing(path) as temporary:
        onnx.save(graph, temporary)
        seal(temporary)
        with runtime.load(temporary) as predictor:
            found = predictor.predict(columns)
        difference = float(np.abs(found - model.predict_proba(columns)).mean())
        if not difference <= _ALLOWED:
            raise ValueError(
                f"the ONNX file of a {type(model).__name__} answers otherwise: mean difference {difference:.3g}, "
                f"allowed {_ALLOWED:g}; nothing was written"
            )
    return path
