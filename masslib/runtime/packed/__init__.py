"""The packed file: a TFLite file with its weights in an adaptive range coder; docs/packed.md describes it."""

from masslib.runtime.packed.container import MAGIC, pack, unpack

__all__ = ["MAGIC", "pack", "unpack"]
