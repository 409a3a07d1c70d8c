"""Estimators of scikit-learn's kind as ONNX files, which hold no pickle and run without scikit-learn."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from masslib import runtime
from masslib._util.extras import needed_by
from masslib._util.files import BLANK_SEAL, replacing, seal
from masslib._util.messages import first_line

_OPSETS = {"": 18, "ai.onnx.ml": 3}
_ROWS = 64
# Classifiers of other packages, and the module of onnxmltools that writes them.
_OTHERS = {
    "lightgbm": ("LGBMClassifier", "onnxmltools.convert.lightgbm.operator_converters.LightGbm", "convert_lightgbm"),
    "xgboost": ("XGBClassifier", "onnxmltools.convert.xgboost.operator_converters.XGBoost", "convert_xgboost"),
}
# Thresholds of trees and distances of neighbours are rounded to float32, so that single rows may fall otherwise.
_ALLOWED = 5e-3


def estimator(model: Any, path: Path, columns: np.ndarray) -> Path:
    """Write the probabilities of an estimator as an ONNX file, and check it.

    Args:
        model: A trained estimator of scikit-learn, LightGBM or XGBoost, or a `Pipeline`, with `predict_proba`.
        path: The file.
        columns: Some rows `(n, columns)` to check it on.

    Raises:
        ModuleNotFoundError: If the extra `estimators` is not installed.
        ValueError: If skl2onnx cannot write it, or the file answers otherwise.

    References:
        sklearn-onnx, "Convert a pipeline" and "Using converters from other libraries".
    """
    with needed_by(f"the ONNX file of a {type(model).__name__}"):
        import onnx
        import skl2onnx

        _register_others()
    columns = np.asarray(columns[:_ROWS], np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = skl2onnx.to_onnx(model, columns[:1], options={"zipmap": False}, target_opset=_OPSETS)
    except Exception as error:  # it has many
        raise ValueError(
            f"skl2onnx {skl2onnx.__version__} with onnx {onnx.__version__} cannot write a {type(model).__name__}: "
            f"{first_line(_origin(error))[:200]}; take another estimator (of gradient boosting LightGBM's or XGBoost's "
            "classifier), or pass the path of an ONNX file with one output that you have made of it"
        ) from error
    del graph.graph.output[0]  # the class; the probabilities stay, with their shape
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


def _register_others() -> None:
    """Tell skl2onnx how to write what was made by other packages, which are imported if a model of theirs exists."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    for package, (name, module, convert) in _OTHERS.items():
        if package in sys.modules:
            update_registered_converter(
                getattr(sys.modules[package], name),
                f"masslib{name}",
                calculate_linear_classifier_output_shapes,
                getattr(importlib.import_module(module), convert),
                options={"zipmap": [True, False, "columns"], "nocl": [True, False]},
            )


def _origin(error: BaseException) -> BaseException:
    """The error that others were raised for."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
