"""Which numbers of a device are news: its epoch first, then the number within it.

A device that has lost its database begins a new epoch with its numbers at 1. An epoch never seen before is the newest;
the ones before it are retired, with the last number of each, and count no more. A retired one that goes on counting is
a second device with the same identity: the disk was cloned. So is a number of the present epoch that comes twice, with
other words (``fleet/ingest.py``).
"""

from enum import Enum
from typing import Any, Final

from sqlalchemy import Row

# Of each device; the oldest are forgotten.
KEPT: Final = 64


class News(Enum):
    """What a numbered document is: news, known already, the first of a new epoch, of a retired one, or a clone's."""

    NEWER = "newer"
    KNOWN = "known"
    NEW_EPOCH = "new epoch"
    RETIRED = "retired"
    CLONE = "clone"


def judge(row: Row[Any], epoch: str, number: int, last: int) -> News:
    """Compare with what the device's row has; ``last`` is the highest number of this kind of document."""
    if epoch in {"", row.epoch}:  # an agent of before has no epochs, and counts on
        return News.NEWER if number > last else News.KNOWN
    if epoch not in row.retired_epochs:
        return News.NEW_EPOCH
    return News.CLONE if number > int(row.retired_epochs[epoch]) else News.RETIRED


def begun(row: Row[Any], epoch: str) -> dict[str, Any]:
    """The columns of a device in its new epoch."""
    retired = dict(row.retired_epochs)
    if row.epoch:
        retired[row.epoch] = max(row.report_number, row.facts_number)
    kept = dict(list(retired.items())[-KEPT:])
    return {"epoch": epoch, "retired_epochs": kept, "report_number": 0, "facts_number": 0, "telemetry_number": 0}


def cloned(row: Row[Any], epoch: str, number: int) -> dict[str, Any]:
    """The columns after a clone was heard, so that the same document is not told of twice."""
    return {"retired_epochs": row.retired_epochs | {epoch: number}}
