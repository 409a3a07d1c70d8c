"""A model in one folder with everything that its users need to know, and the proof that the folder is whole."""

from masslib._util import attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from masslib.packaging._golden import Golden as Golden
    from masslib.packaging._golden import golden as golden
    from masslib.packaging._package import package as package
    from masslib.packaging._replaces import Refused as Refused
    from masslib.packaging._replaces import Replaces as Replaces
    from masslib.packaging._verify import verify as verify

_NAMES = {
    "Golden": "masslib.packaging._golden",
    "golden": "masslib.packaging._golden",
    "package": "masslib.packaging._package",
    "Refused": "masslib.packaging._replaces",
    "Replaces": "masslib.packaging._replaces",
    "verify": "masslib.packaging._verify",
}

__all__ = list(_NAMES)
if not TYPE_CHECKING:
    __getattr__, __dir__ = attach(__name__, _NAMES)
