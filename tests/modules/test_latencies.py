"""Percentiles and medians of what took how long."""

import random
import statistics

import pytest

from modules.latencies import bin_of, median, percentile_ms


@pytest.mark.parametrize("values", [[3.0], [1.0, 9.0], [5.0, 1.0, 3.0], [4.0, 1.0, 3.0, 2.0], [2.0, 2.0, 2.0, 7.0]])
def test_the_median_is_that_of_the_library(values):
    assert median(values) == statistics.median(values)


def test_a_percentile_is_within_a_twentieth():
    dice = random.Random(7)
    took = [dice.lognormvariate(-4, 1) for _ in range(999)]
    counts: dict[int, int] = {}
    for one in took:
        counts[bin_of(one)] = counts.get(bin_of(one), 0) + 1
    assert percentile_ms(counts, 0.95) == pytest.approx(sorted(took)[int(0.95 * len(took))] * 1000, rel=0.05)


def test_of_nothing_there_is_no_percentile():
    assert percentile_ms({}, 0.5) is None
