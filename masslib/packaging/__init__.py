"""A model in one folder with everything that its users need to know, and the proof that the folder is whole."""

from masslib._util import lazy

_NAMES = {"package": "masslib.packaging._package", "verify": "masslib.packaging._verify"}

__all__ = list(_NAMES)
__getattr__, __dir__ = lazy.attach(__name__, _NAMES)
