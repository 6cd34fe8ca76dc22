"""A rollout's policy, and what is known of its devices: typed values without expressions to evaluate.

docs/rollouts.md explains each part by an example.
"""

import re
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from fleet.rollouts.gates import Gate
from fleet.selectors import Labels
from modules.names import DeviceField
from modules.protocol.order import MAX_WINDOWS, Measure, Window

PercentNumber = Annotated[float, msgspec.Meta(ge=0, le=100)]
# 90s, 30m, 2h, 7d: at most a year.
Duration = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,8}[smhd]\Z")]

MAX_WAVES: Final = 100
YEAR_S: Final = 366 * 86400
# What is measured at a time where no gate says for how long.
WINDOW_S: Final = 60
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,8})([smhd])")
# How many devices that failed are named in a reason.
EXAMPLES: Final = 5


class Noun(NamedTuple):
    """What a rollout's members are, for sentences."""

    one: str
    many: str

    def of(self, count: int) -> str:
        return self.one if count == 1 else self.many


DEVICES: Final = Noun("device", "devices")
SHARES: Final = Noun("share of the requests", "shares of the requests")


def seconds(duration: Duration) -> int:
    """The seconds of ``90s``, ``30m``, ``2h`` or ``7d``."""
    match = _DURATION.fullmatch(duration)
    assert match is not None, "the type has checked it"  # noqa: S101 - a defect of the program
    return int(match[1]) * _UNITS[match[2]]


class Wave(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who comes next, by exactly one rule; and what is asked of these devices other than of the rest.

    ``count``: so many devices. ``percent``: until this share of all devices has it, rounded up. ``label``: those that a
    selector matches. ``growth``: a series of waves, each so many times as large as the one before, until all have it.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    label: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    growth: Annotated[float, msgspec.Meta(ge=1.1, le=100)] | None = None
    success_percent: PercentNumber | None = None
    failure_percent: PercentNumber | None = None
    minimum: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    soak: Duration | None = None
    approval: bool | None = None

    def __str__(self) -> str:
        if self.count is not None:
            return f"count {self.count}"
        if self.percent is not None:
            return f"{self.percent:g} %"
        return f"label {self.label}" if self.label is not None else f"growth {self.growth or 0:g}"


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of the devices that have the same value of this label, at most so many are at work at once."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    at_most: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class Threshold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one wave must show: the policy's word, or the wave's own. Times in seconds.

    ``four_eyes``: its approval has to be another person's than who started the rollout.
    """

    success_percent: float
    failure_percent: float
    minimum: int
    soak_s: int
    approval: bool
    four_eyes: bool = False


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who goes when, and what counts as good enough.

    A wave is complete when ``success_percent`` of its devices (without a word: all but ``failure_percent``) are
    committed and have stayed so for ``soak``. It fails when more than ``failure_percent`` failed and at least
    ``minimum`` have come to an end, or when the success can no longer be reached. Both hold for each wave alone, and
    for all that were opened together. A device that has not committed when its ``deadline`` is over has failed if it
    was online, and is left behind, unreached, if it was not. ``starts`` is a moment in RFC 3339. ``keep`` is how long
    an endpoint has the version that was replaced beside the new one, without requests.
    """

    waves: Annotated[tuple[Wave, ...], msgspec.Meta(max_length=MAX_WAVES)] = (Wave(percent=100.0),)
    success_percent: PercentNumber | None = None
    failure_percent: PercentNumber = 0.0
    minimum: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    soak: Duration = "0s"
    approval: bool = False
    deadline: Duration = "1d"
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    budget: Budget | None = None
    starts: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=MAX_WINDOWS)] = ()
    late_joiners: bool = False
    on_failure: Literal["pause", "revert-wave", "revert"] = "pause"
    gates: Annotated[tuple[Gate, ...], msgspec.Meta(max_length=32)] = ()
    keep: Duration = "0s"

    @property
    def measure(self) -> Measure | None:
        """What devices are to measure for the gates: as long as one may take, and then as long as it is watched."""
        if not any(gate.measure not in {"restarts", "provider"} for gate in self.gates):
            return None
        soaks = [self.of(wave).soak_s for wave in self.waves]
        # As long as the longest that a gate names: a shorter one is met by it, too.
        window = max(gate.window_s for gate in self.gates) or WINDOW_S
        return Measure(window_s=min(max(window, 5), 86400), for_s=min(seconds(self.deadline) + max(soaks), YEAR_S))

    def of(self, wave: Wave) -> Threshold:
        """What is asked of a wave: its own word before the policy's."""
        failure = self.failure_percent if wave.failure_percent is None else wave.failure_percent
        success = self.success_percent if wave.success_percent is None else wave.success_percent
        return Threshold(
            success_percent=100.0 - failure if success is None else success,
            failure_percent=failure,
            minimum=wave.minimum or self.minimum,
            soak_s=seconds(wave.soak or self.soak),
            approval=self.approval if wave.approval is None else wave.approval,
        )


class Candidate(msgspec.Struct, frozen=True):
    """A device that the module fits, with its id and facts among its labels; ``hardware`` is what it is judged with."""

    device: DeviceField
    labels: Labels
    hardware: str = ""


class AskedWave(msgspec.Struct, frozen=True):
    """One wave as it stands with its rollout: by which rule it was made, and what is asked of it."""

    rule: str
    threshold: Threshold


class PlannedWave(msgspec.Struct, frozen=True):
    """A wave with its devices, in the order in which they get their orders."""

    asked: AskedWave
    devices: tuple[Candidate, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Devices of one open wave and one kind of hardware, or an endpoint's share of a wave, counted by where they stand.

    Only those count whose slot still belongs to the rollout, or that failed with it. ``planned`` have no order yet.
    ``examples`` are a few of those that failed, in words.
    """

    devices: int = 0
    committed: int = 0
    failed: int = 0
    planned: int = 0
    unreached: int = 0
    examples: tuple[str, ...] = ()

    @property
    def reached(self) -> int:
        return self.devices - self.unreached

    @property
    def ended(self) -> int:
        return self.committed + self.failed

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            devices=self.devices + other.devices,
            committed=self.committed + other.committed,
            failed=self.failed + other.failed,
            planned=self.planned + other.planned,
            unreached=self.unreached + other.unreached,
            examples=(self.examples + other.examples)[:EXAMPLES],
        )
