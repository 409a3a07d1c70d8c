"""Train large Keras 3 models on many devices and make them small enough to ship.

Every name is imported when it is first used (PEP 562), so that `import masslib` costs a few milliseconds
and a program that only runs an exported file never loads TensorFlow.

Import it before TensorFlow and Keras, which then take their faster kernels for the CPU (see `masslib._util.kernels`).
"""

from masslib._util import lazy
from masslib._util.kernels import turn_on

turn_on()

# Written out: asking importlib.metadata for it would take longer than the whole import.
__version__ = "0.1.0"

_MODULES = (
    "bridge",
    "checkpoint",
    "compression",
    "data",
    "distribute",
    "evaluation",
    "export",
    "formats",
    "graph",
    "launcher",
    "measure",
    "models",
    "packaging",
    "plot",
    "runtime",
    "selection",
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
    "diagnose": "compression",
    "evaluate": "evaluation",
    "agreement": "selection",
    "compare": "selection",
    "fastest": "selection",
    "search": "selection",
    "sensitivity": "selection",
    "package": "packaging",
    "verify": "packaging",
}
_ATTRIBUTES = {name: f"masslib.{name}" for name in _MODULES}
_ATTRIBUTES |= {name: f"masslib.{module}" for name, module in _NAMES.items()}

__all__ = [*_ATTRIBUTES, "__version__"]
__getattr__, __dir__ = lazy.attach(__name__, _ATTRIBUTES)
