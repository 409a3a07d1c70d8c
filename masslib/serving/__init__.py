"""A service for packages: real-time answers over HTTP, versions swapped under load, watched; without TensorFlow."""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.serving.ray import ray_app as ray_app
    from masslib.serving.server import Server as Server
    from masslib.serving.server import serve as serve

_NAMES = {
    "Server": "masslib.serving.server",
    "ray_app": "masslib.serving.ray",
    "serve": "masslib.serving.server",
}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _NAMES)
