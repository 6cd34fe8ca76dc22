"""What a message of telemetry changes, if it is news."""

from typing import Any, Final, NamedTuple

from sqlalchemy import Row

from fleet import epochs
from fleet.epochs import News
from modules.protocol.telemetry import Telemetry

# Its document is larger than what is looked at in a batch; the others are of epochs that count no more.
_IGNORED: Final = frozenset({News.RETIRED, News.CLONE})


class Heard(NamedTuple):
    """What is committed of the device's epoch: columns that change, and the numbers to acknowledge."""

    columns: dict[str, Any]
    report: int
    telemetry: int
    new_epoch: bool = False


def heard(row: Row[Any], said: Telemetry, now: float) -> Heard | None:
    """The message in the light of the device's row; None: nothing is to be acknowledged.

    Of a retired epoch, telemetry is late or again, and no sign of a clone: reports and facts tell of those.
    """
    news = epochs.judge(row, said.epoch, said.number, row.telemetry_number)
    if news in _IGNORED:
        return None
    if news is News.KNOWN:  # its acknowledgement may have been lost
        return Heard({}, row.report_number, row.telemetry_number)
    seen = {"telemetry_number": said.number, "last_seen": now}
    if news is News.NEW_EPOCH:
        return Heard(epochs.begun(row, said.epoch) | seen, 0, said.number, new_epoch=bool(row.epoch))
    return Heard(seen, row.report_number, said.number)
