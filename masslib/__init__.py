"""Train large Keras 3 models on many devices and make them small enough to ship.

Every name is imported when it is first used (PEP 562), so that `import masslib` costs a few milliseconds
and a program that only runs an exported file never loads TensorFlow.

Import it before TensorFlow and Keras, which then take their faster kernels for the CPU (see `masslib.kernels`).
"""

from importlib import import_module

from masslib.kernels import turn_on

turn_on()

# Written out: asking importlib.metadata for it would take longer than the whole import.
__version__ = "0.1.0"

_MODULES = (
    "bridge",
    "checkpoint",
    "comparison",
    "compression",
    "data",
    "distribute",
    "evaluation",
    "export",
    "launcher",
    "measure",
    "models",
    "plot",
    "runtime",
    "train",
)
_NAMES = {
    "strategy": "distribute",
    "launch": "launcher",
    "fit": "train",
    "compress": "compression",
    "Cluster": "compression",
    "Compressed": "compression",
    "Distill": "compression",
    "LowRank": "compression",
    "Prune": "compression",
    "PruneChannels": "compression",
    "Quantize": "compression",
    "QuantizeAware": "compression",
    "search": "compression",
    "sensitivity": "compression",
    "diagnose": "bridge",
    "compare": "comparison",
    "evaluate": "evaluation",
}

__all__ = [*_MODULES, *_NAMES, "__version__"]


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(import_module(f"masslib.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"masslib.{name}")
    else:
        raise AttributeError(f"module 'masslib' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
