"""Several requests in one run, for graphs whose first axis is a batch; off wherever measuring says it does not pay."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from modules.scoring.graphs.tensors import Array
from modules.scoring.runtime import Tensor

Feeds = dict[str, Array]
Values = list[Any]
Run = Callable[[Feeds], Values]

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


def has_batch_axis(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether every tensor's first dimension is free, and the same one where the inputs name it."""
    shapes = [one.shape for one in (*inputs, *outputs)]
    if not inputs or any(not shape or isinstance(shape[0], int) for shape in shapes):
        return False
    return len({one.shape[0] for one in inputs}) == 1


def choose(run: Run, single: Feeds, single_s: float, clock: Callable[[], float]) -> Batches:
    """Try batches of the example ``single``, which runs in ``single_s``; the answers must be those of lone runs."""
    best, cost = 1, single_s
    for size in SIZES:
        if size * cost > LONGEST_TRIAL_S:
            break
        feeds = [_varied(single, position) for position in range(size)]
        together = joined(feeds)
        if size == SIZES[0] and not _same(run, feeds, together):
            return Batches()
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


def _varied(single: Feeds, position: int) -> Feeds:
    """The example with other numbers, so that answers can be told apart.

    Floats have a range of their own in each: a graph that looks for the largest of all, as those do that are quantized
    while they run, would give one caller an answer that depends on the others. Integers are 0 or 1, which stand for
    something wherever 0 does.
    """
    generator = np.random.default_rng(position)

    def varied(value: Array) -> Array:
        if value.dtype.kind == "f":
            return (generator.random(value.shape, np.float32) * RANGES[position % len(RANGES)]).astype(value.dtype)
        return generator.integers(0, 2, value.shape).astype(value.dtype) if value.dtype.kind in "iub" else value

    return {name: varied(value) for name, value in single.items()}


def _same(run: Run, feeds: list[Feeds], together: Feeds) -> bool:
    """Whether the batch gives each its own answer: a first axis need not be a batch."""
    try:
        parts = split(run(together), [rows(one) for one in feeds])
        alone = [run(one) for one in feeds]
    except Exception:  # noqa: BLE001 - whatever stops it, such a graph is not batched
        return False
    return all(
        _close(a, b) for mine, theirs in zip(parts, alone, strict=True) for a, b in zip(mine, theirs, strict=True)
    )


def _close(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return isinstance(a, list) and len(a) == len(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    return bool(np.allclose(a, b, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE, equal_nan=True))
