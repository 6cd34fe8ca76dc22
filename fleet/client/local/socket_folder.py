"""A passing folder for a Unix socket, whose whole path may have 107 bytes and no more."""

import os
import tempfile
from typing import Final

# What stays for the folder's own name and the socket's in it.
_LONGEST: Final = 70
_SHORT: Final = "/tmp"  # noqa: S108  a folder of its own is made there


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """In the usual place for passing files, or in ``/tmp`` where that place's path is too long (``TMPDIR``)."""
    usual = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(
        prefix="edgefleet-", dir=usual if len(os.fsencode(usual)) <= _LONGEST else _SHORT
    )
