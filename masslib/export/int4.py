"""Weights of four bits in a TFLite file (the extra `int4`)."""

from __future__ import annotations

from masslib._util.extras import needed_by


def quantized(content: bytes) -> bytes:
    """Quantize the weights of a float TFLite file to int4, a scale per output channel; activations stay in float.

    TensorFlow's converter has no int4, so the work is that of ai-edge-quantizer (its recipe `dynamic_wi4_afp32`).

    Raises:
        ModuleNotFoundError: If the extra `int4` is not installed.
    """
    with needed_by("the precision int4"):
        from ai_edge_quantizer import quantizer, recipe
    work = quantizer.Quantizer(content, recipe.dynamic_wi4_afp32())
    return bytes(work.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model)
