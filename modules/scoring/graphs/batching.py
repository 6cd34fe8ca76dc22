"""Several requests in one run, where ``batch_axis`` allows it and a trial shows that answers stay and that it pays."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from modules.scoring.graphs.tensors import Array

Feeds = dict[str, Array]
Values = list[Any]
Run = Callable[[Feeds], Values]

log = logging.getLogger(__name__)

# A batch must save this share of a lone run, and at least what queueing and splitting cost.
MIN_GAIN: Final = 0.15
OVERHEAD_S: Final = 60e-6
MAX_DELAY_S: Final = 0.002
# Sizes tried in this order, as long as each is better than the one before and none takes too long.
SIZES: Final = (4, 16, 64)
LONGEST_TRIAL_S: Final = 0.5
# A number in JSON takes up to this many times its own bytes.
BYTES_IN_JSON: Final = 6
# How far the numbers of the requests that are tried together reach.
RANGES: Final = (1.0, 8.0, 0.125, 2.0)
# Rows of the requests that are tried together.
ROWS: Final = (1, 2, 1, 3)
# The largest integers tried, until the graph runs with them.
HIGHEST: Final = (7, 1)
# Kernels add in another order when the batch is larger.
RELATIVE_TOLERANCE: Final = 1e-3
ABSOLUTE_TOLERANCE: Final = 1e-4


class Batches(msgspec.Struct, frozen=True):
    """At most ``size`` requests together, of ``body_bytes`` in all; the first waits at most ``delay_s`` for the others.

    What pays for small requests need not pay for large ones, as a longer text or a larger picture: more than was
    tried is never run together.
    """

    size: int = 1
    delay_s: float = 0.0
    body_bytes: float = math.inf


def choose(run: Run, single: Feeds, single_s: float, clock: Callable[[], float]) -> Batches:
    """Try batches of the example ``single``, which runs in ``single_s``; the answers must be those of lone runs."""
    best, cost = 1, single_s
    if SIZES[0] * single_s > LONGEST_TRIAL_S or not independent(run, single):
        return Batches()
    for size in SIZES:
        if size * cost > LONGEST_TRIAL_S:
            break
        feeds = [_varied(single, position, highest=1) for position in range(size)]
        together = joined(feeds)
        started = clock()
        run(together)
        each = (clock() - started) / size
        if cost - each < max(MIN_GAIN * cost, OVERHEAD_S if best == 1 else 0.0):
            break
        best, cost = size, each
    if best == 1:
        return Batches()
    text = any(value.dtype == object for value in single.values())  # its length was not tried
    tried = math.inf if text else best * sum(value.nbytes for value in single.values()) * BYTES_IN_JSON
    return Batches(best, min(MAX_DELAY_S, 0.25 * single_s), tried)


def key(feeds: Feeds) -> tuple[Any, ...]:
    """What requests must share to run together: all shapes but for the first dimension."""
    return tuple((name, value.shape[1:]) for name, value in feeds.items())


def rows(feeds: Feeds) -> int:
    """The length of the batch axis; 0 where the inputs do not agree on one."""
    lengths = {len(value) for value in feeds.values()}
    return lengths.pop() if len(lengths) == 1 else 0


def joined(several: Sequence[Feeds]) -> Feeds:
    if len(several) == 1:
        return several[0]
    return {name: np.concatenate([feeds[name] for feeds in several]) for name in several[0]}


def split(values: Values, lengths: Sequence[int]) -> list[Values]:
    """The outputs of each request, in the order of their ``lengths``; views, not copies."""
    found: list[Values] = []
    start = 0
    for length in lengths:
        found.append([value[start : start + length] for value in values])
        start += length
    return found


def fits(values: Values, rows: int) -> bool:
    """Whether the outputs of a run have the length that the inputs had, so that :func:`split` can divide them."""
    return all(isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == rows for value in values)


def independent(run: Run, single: Feeds) -> bool:
    """Whether requests that differ in numbers, range, sign and rows get in one run the answers that they get alone.

    Integers stand for something up to 7 in most graphs, and up to 1 wherever 0 does.
    """
    for highest in HIGHEST:
        try:
            return all(_same(run, single, signed=signed, highest=highest) for signed in (False, True))
        except Exception as error:  # noqa: BLE001 - whatever stops it, such a graph is not batched
            log.debug("a trial of batches with integers up to %d does not run: %s", highest, error)
    return False


def _varied(single: Feeds, position: int, *, highest: int, signed: bool = False, times: int = 1) -> Feeds:
    """The example with other numbers and words, and ``times`` as many rows, so that answers can be told apart.

    Floats have a range of their own in each: a graph that looks for the largest of all, as those do that are quantized
    while they run, would give one caller an answer that depends on the others.
    """
    generator = np.random.default_rng([position, signed])

    def varied(value: Array) -> Array:
        shape = (len(value) * times, *value.shape[1:])
        if value.dtype.kind == "f":
            numbers = generator.random(shape, np.float32) * RANGES[position % len(RANGES)]
            return (numbers * generator.choice((-1, 1), shape) if signed else numbers).astype(value.dtype)
        if value.dtype == object:
            return np.array(
                [f"word{number} text" for number in generator.integers(0, 99, math.prod(shape))], object
            ).reshape(shape)
        return generator.integers(0, 1 if value.dtype.kind == "b" else highest, shape, endpoint=True).astype(
            value.dtype
        )

    return {name: varied(value) for name, value in single.items()}


def _same(run: Run, single: Feeds, *, signed: bool, highest: int) -> bool:
    """Whether the batch gives each its own answer, and the answers tell the requests apart at all."""
    feeds = [
        _varied(single, position, highest=highest, signed=signed, times=times) for position, times in enumerate(ROWS)
    ]
    lengths = [rows(one) for one in feeds]
    values = run(joined(feeds))
    if not fits(values, sum(lengths)):
        return False
    alone = [run(one) for one in feeds]
    if not any(_tells(column) for column in zip(*alone, strict=True)):
        return False
    parts = split(values, lengths)
    return all(
        _close(a, b) for mine, theirs in zip(parts, alone, strict=True) for a, b in zip(mine, theirs, strict=True)
    )


def _tells(answers: Sequence[Array]) -> bool:
    """Whether some answer of one output is another request's not: floats, of which not all are NaN or the same."""
    first = np.ravel(answers[0])[:1]
    return bool(first.dtype.kind == "f") and any(np.any(np.isfinite(one) & (one != first)) for one in answers)


def _close(a: Any, b: Any) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True))
