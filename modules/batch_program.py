"""How a batch run is asked for, on a target and on a device: its command line, and what it says of itself.

The program is in every scoring image (modules/scoring/batch). Who starts it knows it by these words alone.
"""

from typing import Annotated, Final

import msgspec

from modules.bounds import Count
from modules.canonical import UNREADABLE
from modules.words import printable

COMMAND: Final = ("python", "-m", "modules.scoring.batch")
#: where a job finds its inputs and has its answers
INPUTS: Final = "/inputs"
OUTPUTS: Final = "/outputs"
#: so often it is started when it did not end by itself: its memory ran out, or its host went away
STARTS: Final = 10
#: its own words for an end: the command line, the module, the inputs, the disk
ITS_OWN: Final = frozenset({1, 3, 4, 5})
#: it was asked to end, and goes on where it was
TERMINATED: Final = 143
_WORDS: Final = 700


class Asking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run asks: see docs/batch.md."""

    match: Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f]*\Z")] = "*"
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    mini_batch: Annotated[int, msgspec.Meta(ge=1, le=256)] = 10
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2
    error_threshold: Annotated[int, msgspec.Meta(ge=-1, le=1 << 40)] = -1
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0


class Progress(msgspec.Struct, frozen=True):
    """How far a run is, as a line of its own says; a module may have written that line, so it is bounded."""

    items: Count
    answered: Count
    set_aside: Count


def arguments(asking: Asking, *, module: str, outputs: str) -> list[str]:
    """Its command line; ``module`` and ``outputs`` are folders as the program sees them."""
    options = {
        "--module": module,
        "--inputs": INPUTS,
        "--outputs": outputs,
        "--state": f"{outputs}/.state",
        "--match": asking.match,
        "--workers": str(asking.workers),
        "--mini-batch": str(asking.mini_batch),
        "--retries": str(asking.retries),
        "--error-threshold": str(asking.error_threshold),
        "--timeout": str(asking.timeout_s),
    }
    return [f"{name}={value}" for name, value in options.items()]


def told(text: str | bytes) -> Progress | None:
    """How far it is, where a line says so; it may say anything."""
    try:
        return msgspec.json.decode(text, type=Progress)
    except UNREADABLE:
        return None


def last_words(log: str) -> str:
    """The last line of a log."""
    return printable(log.rstrip("\n").rpartition("\n")[2], _WORDS) if log else ""
