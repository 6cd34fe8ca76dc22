"""Mutants that make no difference, each with the reason: they are counted apart, and not tried.

An argument holds for one change of one line of one function, by their words: whoever changes that line argues anew, or
writes the test. "It is hard to test" is no argument.
"""

from typing import Final, NamedTuple


class Equal(NamedTuple):
    """A change that is as good as the code: the file, function and line, the change as a run prints it, and why."""

    file: str
    where: str
    change: str
    why: str


EQUAL: Final = (
    Equal(
        "agent/execute.py",
        'Executor._arm: raise RuntimeError(f"no arm for {step}")',
        'raise RuntimeError(f"no arm for {step}")  =>  pass',
        "every step has an arm above, which mypy and the crash points hold; this is for a step that is added",
    ),
    Equal(
        "agent/keep.py",
        "Keeper._held_back: return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()",
        "self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()  =>  "
        "(self._unwritten.get(slot.slot, (0, 0.0))[1] >= self._hands.clock.monotonic())",
        "they differ for one instant of a clock that counts nanoseconds, and the next pass looks again",
    ),
    Equal(
        "agent/supply.py",
        "Supply.fetch: total = sum(blob.length for blob in missing) or 1",
        "1  =>  2",
        "where nothing is missing but empty blobs no bytes are gained: of one or of two, they are the same share",
    ),
    Equal(
        "fleet/ingest.py",
        "Ingest._take: if self._clock() - row.removed > PARTING_S:",
        "self._clock() - row.removed > PARTING_S  =>  (self._clock() - row.removed >= PARTING_S)",
        "a minute's grace is a guess: its last microsecond belongs to either side",
    ),
    Equal(
        "modules/trust/client.py",
        "Client.__init__: max_delegations=8,",
        "8  =>  9",
        "a repository has one level of teams, and they end the search: eight is a bound that nothing honest meets",
    ),
    Equal(
        "modules/trust/device.py",
        ": _LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)",
        "2000  =>  2001",
        "any time before edgefleet signed its first metadata does",
    ),
)
