"""The signers that a device never uses, left out: half a megabyte of memory, three where the library for HSMs is.

securesystemslib imports all of them at once: those of HSMs, of clouds, of GnuPG. Stand-ins take their places before it
is asked for any. A key that one of them would verify cannot be read, so a device never asks GnuPG; nobody's metadata
has such keys. If securesystemslib moves them, nothing breaks, and the benchmark ``journey`` says that memory grew.
"""

import sys
from types import ModuleType
from typing import Final, NoReturn

_PACKAGE: Final = "securesystemslib.signer"
_SIGNERS: Final = ("aws", "azure", "gcp", "gpg", "hsm", "sigstore", "tkey", "vault")


class _LeftOut:
    SCHEME = "left-out"

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("a device signs with its own key alone")

    @classmethod
    def from_dict(cls, *_: object) -> NoReturn:
        raise ValueError("a device verifies no keys of this kind")


def leave_out() -> None:
    """To be called before anything imports securesystemslib; later it does nothing."""
    if _PACKAGE in sys.modules:
        return
    for signer in _SIGNERS:
        stand_in = ModuleType(f"{_PACKAGE}._{signer}_signer")
        stand_in.__dict__["__getattr__"] = _named
        sys.modules[stand_in.__name__] = stand_in


def _named(name: str) -> type[_LeftOut]:
    if name.startswith("__"):
        raise AttributeError(name)
    return _LeftOut
