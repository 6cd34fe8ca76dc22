"""The arrays of several requests made one, and the answers to them divided again."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modules.scoring.graphs.tensors import Array

Feeds = dict[str, Array]
Values = list[Any]
Run = Callable[[Feeds], Values]


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
