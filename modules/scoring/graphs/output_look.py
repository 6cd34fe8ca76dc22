"""Looking at a graph's outputs on their way to the client: a sample of the numbers, in a few steps of NumPy."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from modules.scoring.answers import MOST_NUMBERS, Answers, Counted, of_document
from modules.scoring.graphs.shared_run import Values
from modules.sketch import BINS, SPAN

T = TypeVar("T")
_NUMBERS: Final = "fiub"
_MIDDLE: Final = BINS // 2


def seen(answers: Answers, encode: Callable[[Values, float], T]) -> Callable[[Values, float], T]:
    """The same encoder, which lets the outputs be looked at where it is time to."""
    return partial(_looking, answers, encode) if answers.due() else encode


def _looking(answers: Answers, encode: Callable[[Values, float], T], values: Values, run_ms: float) -> T:
    if answers.due():
        answers.look(lambda: of_outputs(values))
    return encode(values, run_ms)


def of_outputs(values: Values) -> Counted:
    """What one request's outputs are like."""
    counts = np.zeros(BINS, np.int64)
    nan, empty = False, True
    for value in values:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in _NUMBERS:
            plain = value.reshape(-1)[:MOST_NUMBERS].tolist() if isinstance(value, np.ndarray) else value
            found = of_document(plain)
            nan, empty = nan or found.nan, empty and found.empty
            for number, count in found.bins:
                counts[number] += count
        elif value.size:
            empty = False
            numbers = _sample(value)
            finite = np.isfinite(numbers)
            if not finite.all():
                nan, numbers = True, numbers[finite]
            counts += np.bincount(_bins(numbers), minlength=BINS)
    return Counted([(int(number), int(counts[number])) for number in np.flatnonzero(counts)], nan=nan, empty=empty)


def _sample(value: Any) -> Any:
    """At most so many of its numbers, evenly spread."""
    flat = value.reshape(-1)
    return flat[:: -(-flat.size // MOST_NUMBERS)].astype(np.float64)


def _bins(numbers: Any) -> Any:
    """As :func:`modules.sketch.bin_of`, of many at once."""
    powers = np.clip(np.frexp(numbers)[1] - 1, -SPAN - 1, SPAN)
    return _MIDDLE + np.where(numbers == 0, 0, np.sign(numbers) * (powers + SPAN + 2)).astype(np.int64)
