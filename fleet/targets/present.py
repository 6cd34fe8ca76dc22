"""What of a fleet's stands on a target, read from the labels of what is there."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from fleet.targets.container.specs import LABEL
from fleet.targets.contract import Found
from modules.errors import Invalid
from modules.names import slug

_KINDS: Final[tuple[Literal["endpoint", "job"], ...]] = ("endpoint", "job")


def named_by(labels: Iterable[Mapping[str, str]]) -> frozenset[Found]:
    """Whose parts carry these labels, which anybody on the host can write: a name that none can have is not ours."""
    return frozenset(found for one in labels for kind in _KINDS for found in _read(kind, one.get(f"{LABEL}{kind}", "")))


def _read(kind: Literal["endpoint", "job"], name: str) -> Iterable[Found]:
    try:
        return (Found(kind, slug(name)),)
    except Invalid:
        return ()
