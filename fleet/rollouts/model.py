"""A rollout's policy, and what is known of its devices: typed values without expressions to evaluate."""

from typing import Annotated, Final

import msgspec

from modules.names import DeviceField

PercentNumber = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Percent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="percent", tag_field="by"):
    """A wave of this share of all devices, rounded up."""

    percent: Annotated[float, msgspec.Meta(gt=0, le=100)]


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="count", tag_field="by"):
    """A wave of so many devices."""

    count: Annotated[int, msgspec.Meta(ge=1)]


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="label", tag_field="by"):
    """A wave of the devices that a selector matches."""

    selector: str


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who goes when, and what counts as good enough.

    A wave is complete when ``success_percent`` of its devices are committed. It fails as soon as more than
    ``failure_percent`` failed, or so many that the success can no longer be reached. Both hold for each wave alone, and
    for all that were opened together.
    """

    waves: tuple[Percent | Count | Label, ...] = (Percent(100.0),)
    success_percent: PercentNumber = 100.0
    failure_percent: PercentNumber = 0.0


class Candidate(msgspec.Struct, frozen=True):
    """A device that the module fits; labels include its id."""

    device: DeviceField
    labels: dict[str, str]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of one open wave whose slot still belongs to the rollout, counted by what they last reported.

    ``unordered`` have no order yet. ``examples`` are a few of those that failed, in words.
    """

    devices: int = 0
    committed: int = 0
    failed: int = 0
    unordered: int = 0
    examples: tuple[str, ...] = ()


MAX_WAVES: Final = 100
# How many devices that failed are named in a reason.
EXAMPLES: Final = 5
