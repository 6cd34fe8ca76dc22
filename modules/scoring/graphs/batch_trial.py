"""The trial: do requests get in one run the answers that they get alone, whatever stands in the others?

A graph may look at its neighbours for certain values only: fill gaps with the mean of all, or divide by 255 where
anybody sent more than 1. So the requests differ in numbers, range, sign, rows and gaps, and one is nothing but zeros.
"""

import logging
import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from modules.scoring.graphs.shared_run import Feeds, Run, Values, fits, joined, rows, split
from modules.scoring.graphs.tensors import Array

log = logging.getLogger(__name__)

# Rows of the requests that are tried together.
ROWS: Final = (1, 2, 1, 1)
# Kernels add in another order when the batch is larger.
RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-4
# Where numbers reach further than this, the order of adding alone may change an answer: it is not compared.
COMPARED: Final = 8.0
# How often a boolean is true.
_TRUE: Final = (0.5, 0.0, 1.0, 0.5)
_NO_GAPS: Final = (None,) * len(ROWS)


class Kind(msgspec.Struct, frozen=True):
    """What stands in the requests of a trial, for each of them: how far its floats reach, and what fills its gaps.

    Integers stand for something up to ``highest`` in most graphs; the first with which the graph runs counts.
    """

    reach: tuple[float, ...] = (1.0, 8.0, 0.125, 2.0)
    gaps: tuple[float | None, ...] = _NO_GAPS
    signed: bool = False
    highest: tuple[int, ...] = (7, 1)


USUAL: Final = Kind()
SIGNED: Final = Kind(signed=True)
# These need not run: what fails together is run again alone.
FAR: Final = Kind(reach=(1.0, 300.0, 0.0, 1e4), highest=(300, 7, 1))
GAPS: Final = Kind(gaps=(None, math.nan, math.nan, math.inf))


def independent(run: Run, single: Feeds, others: Sequence[Feeds] = ()) -> bool:
    """Whether requests like ``single``, and like ``others``, get in one run the answers that they get alone."""
    if not all(_same(run, single, kind, must_run=True) for kind in (USUAL, SIGNED)):
        return False
    floats = any(value.dtype.kind == "f" for value in single.values())
    more = [(single, FAR), *((single, GAPS) for _ in range(floats)), *((other, SIGNED) for other in others)]
    return all(_same(run, feeds, kind, must_run=False) for feeds, kind in more)


def places_agree(run: Run, feeds: Sequence[Feeds], values: Values) -> bool:
    """Whether the first, the one in the middle and the last of many requests got in ``values`` their own answers."""
    lengths = [rows(one) for one in feeds]
    if not fits(values, sum(lengths)):
        return False
    parts = split(values, lengths)
    return all(_close(parts[place], run(feeds[place])) for place in (0, len(feeds) // 2, -1))


def varied(single: Feeds, position: int, kind: Kind = USUAL, *, highest: int = 1, times: int = 1) -> Feeds:
    """The example with other numbers and words, and ``times`` as many rows, so that answers can be told apart.

    Each has a range of its own: a graph that looks for the largest of all, as those do that are quantized
    while they run, would give one caller an answer that depends on the others.
    """
    generator = np.random.default_rng([position, kind.signed])
    place = position % len(ROWS)

    def made(value: Array) -> Array:
        shape = (len(value) * times, *value.shape[1:])
        if value.dtype.kind == "f":
            numbers = generator.random(shape, np.float32) * kind.reach[place]
            numbers = numbers * generator.choice((-1, 1), shape) if kind.signed else numbers
            if (gap := kind.gaps[place]) is not None:
                numbers = np.where(generator.random(shape) < 0.5, gap, numbers)  # noqa: PLR2004 - half of them
            return numbers.astype(value.dtype)
        if value.dtype == object:
            # Longer and shorter ones: where all are brought to the longest, one's answer depends on the others.
            words = [f"word{number}" + " text" * (number % 4) for number in generator.integers(0, 99, math.prod(shape))]
            return np.array(words, object).reshape(shape)
        if value.dtype.kind == "b":
            return generator.random(shape) < _TRUE[place]
        top = min(highest >> place % 3, np.iinfo(value.dtype).max)
        return generator.integers(0, top, shape, endpoint=True).astype(value.dtype)

    return {name: made(value) for name, value in single.items()}


def _same(run: Run, single: Feeds, kind: Kind, *, must_run: bool) -> bool:
    """Whether the batch gives each its own answer; where it ``must_run``, the answers tell the requests apart, too."""
    for highest in kind.highest:
        feeds = [varied(single, place, kind, highest=highest, times=times) for place, times in enumerate(ROWS)]
        lengths = [rows(one) for one in feeds]
        try:
            values, alone = run(joined(feeds)), [run(one) for one in feeds]
        except Exception as error:  # noqa: BLE001 - whatever stops it, this tells nothing of the graph
            log.debug("a trial of batches with integers up to %d does not run: %s", highest, error)
            continue
        if not fits(values, sum(lengths)) or (must_run and not any(map(_tells, zip(*alone, strict=True)))):
            return False
        pairs = zip(split(values, lengths), alone, kind.reach, strict=True)
        return all(_close(mine, theirs) for mine, theirs, reach in pairs if reach <= COMPARED)
    return not must_run


def _tells(answers: Sequence[Array]) -> bool:
    """Whether some answer of one output is another request's not: floats, of which not all are NaN or the same."""
    first = np.ravel(answers[0])[:1]
    return bool(first.dtype.kind == "f") and any(np.any(np.isfinite(one) & (one != first)) for one in answers)


def _close(mine: Values, theirs: Values) -> bool:
    return all(_one_close(a, b) for a, b in zip(mine, theirs, strict=True))


def _one_close(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    # Some graphs answer with nothing but small numbers.
    largest = min(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0)))
    return bool(np.allclose(a, b, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE * largest, equal_nan=True))
