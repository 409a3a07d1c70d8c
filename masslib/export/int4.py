"""Weights of four bits in a TFLite file (the extra `int4`)."""

from __future__ import annotations

from masslib.export import preflight


def quantized(content: bytes) -> bytes:
    """Quantize the weights of a float TFLite file to int4, a scale per output channel; activations stay in float.

    TensorFlow's converter has no int4, so the work is that of ai-edge-quantizer (its recipe `dynamic_wi4_afp32`).

    Raises:
        ModuleNotFoundError: If the extra `int4` is not installed.
    """
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ModuleNotFoundError as error:
        raise preflight.extra_needed(error, "int4") from None
    work = quantizer.Quantizer(content, recipe.dynamic_wi4_afp32())
    return bytes(work.quantize(enable_progress_bar=False, enable_progress_report=False).quantized_model)
