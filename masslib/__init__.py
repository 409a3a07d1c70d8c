"""Train large Keras 3 models on many devices and make them small enough to ship.

Every name is imported when it is first used (PEP 562), so that `import masslib` costs a few milliseconds
and a program that only runs an exported file never loads TensorFlow.

Import it before TensorFlow and Keras, which then take their faster kernels for the CPU (see `masslib._util.kernels`).
"""

import os
import sys

from masslib._util import attach

TYPE_CHECKING = False  # type checkers and editors assume True
if TYPE_CHECKING:
    from masslib import bridge as bridge
    from masslib import checkpoint as checkpoint
    from masslib import compression as compression
    from masslib import data as data
    from masslib import distribute as distribute
    from masslib import ensemble as ensemble
    from masslib import evaluation as evaluation
    from masslib import export as export
    from masslib import formats as formats
    from masslib import graph as graph
    from masslib import launcher as launcher
    from masslib import measure as measure
    from masslib import models as models
    from masslib import packaging as packaging
    from masslib import plot as plot
    from masslib import runtime as runtime
    from masslib import selection as selection
    from masslib import serving as serving
    from masslib import train as train
    from masslib.compression import Cluster as Cluster
    from masslib.compression import Compressed as Compressed
    from masslib.compression import Distill as Distill
    from masslib.compression import LowRank as LowRank
    from masslib.compression import Prune as Prune
    from masslib.compression import PruneChannels as PruneChannels
    from masslib.compression import Quantize as Quantize
    from masslib.compression import QuantizeAware as QuantizeAware
    from masslib.compression import Squeeze as Squeeze
    from masslib.compression import compress as compress
    from masslib.compression import diagnose as diagnose
    from masslib.distribute import strategy as strategy
    from masslib.ensemble import Ensemble as Ensemble
    from masslib.evaluation import evaluate as evaluate
    from masslib.launcher import launch as launch
    from masslib.launcher import train_many as train_many
    from masslib.packaging import package as package
    from masslib.packaging import verify as verify
    from masslib.selection import agreement as agreement
    from masslib.selection import compare as compare
    from masslib.selection import fastest as fastest
    from masslib.selection import search as search
    from masslib.selection import sensitivity as sensitivity
    from masslib.serving import serve as serve
    from masslib.train import evaluate_compiled as evaluate_compiled
    from masslib.train import fit as fit

if "tensorflow" not in sys.modules:  # which reads it once; a choice of the user's stands
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Written out: asking importlib.metadata for it would take longer than the whole import.
__version__ = "0.1.0"

_MODULES = (
    "bridge",
    "checkpoint",
    "compression",
    "data",
    "distribute",
    "ensemble",
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
    "serving",
    "train",
)
_NAMES = {
    "strategy": "distribute",
    "launch": "launcher",
    "train_many": "launcher",
    "Ensemble": "ensemble",
    "fit": "train",
    "evaluate_compiled": "train",
    "compress": "compression",
    "Cluster": "compression",
    "Compressed": "compression",
    "Distill": "compression",
    "LowRank": "compression",
    "Prune": "compression",
    "PruneChannels": "compression",
    "Quantize": "compression",
    "QuantizeAware": "compression",
    "Squeeze": "compression",
    "diagnose": "compression",
    "evaluate": "evaluation",
    "agreement": "selection",
    "compare": "selection",
    "fastest": "selection",
    "search": "selection",
    "sensitivity": "selection",
    "package": "packaging",
    "verify": "packaging",
    "serve": "serving",
}
_ATTRIBUTES = {name: f"masslib.{name}" for name in _MODULES}
_ATTRIBUTES |= {name: f"masslib.{module}" for name, module in _NAMES.items()}

__all__ = [*_ATTRIBUTES, "__version__"]
if not TYPE_CHECKING:  # with a module-level __getattr__ type checkers would accept any name
    __getattr__, __dir__ = attach(__name__, _ATTRIBUTES)
