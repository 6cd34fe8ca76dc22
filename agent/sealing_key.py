"""The device's key for secrets: made once, apart from its TLS key, so that a renewal loses no secret.

The private half never leaves the identity folder; the public half, which the facts carry, lies beside it, so that an
agent that opens no secret need not load what it takes to.
"""

import importlib
from pathlib import Path
from typing import Final

from agent.identity import write_private
from modules.errors import BadSettings

KEY: Final = "sealing.key"
PUBLIC: Final = "sealing.pub"
_BYTES: Final = 32


def ensure(identity: Path) -> bytes:
    """The public half; the pair is made where there is none. Both files come whole or not at all.

    Raises:
        BadSettings: a file is damaged, or cannot be read or written.
    """
    try:
        try:
            public = (identity / PUBLIC).read_bytes()
        except FileNotFoundError:
            sealing = importlib.import_module("modules.sealing")
            if not (identity / KEY).exists():
                write_private(identity / KEY, sealing.new_key())
            public = sealing.public_half(private(identity))
            write_private(identity / PUBLIC, public)
    except OSError as error:
        raise BadSettings(
            f"the key for secrets cannot be made: {error.strerror}",
            element=str(identity),
            remedy="run it as the agent's user",
        ) from error
    return _whole(public, identity / PUBLIC)


def private(identity: Path) -> bytes:
    """The private half.

    Raises:
        BadSettings: it is damaged.
    """
    return _whole((identity / KEY).read_bytes(), identity / KEY)


def _whole(data: bytes, path: Path) -> bytes:
    if len(data) != _BYTES:
        raise BadSettings(
            "the key for secrets is damaged",
            element=str(path),
            remedy=f"remove {KEY} and {PUBLIC} there and set the device's secrets again",
        )
    return data
