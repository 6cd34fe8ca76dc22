"""Where requests are run: on the event loop while runs are quick, in threads once one was not."""

import time

import pytest

from modules.scoring.lanes import TOO_LONG_INLINE_S, Lanes
from modules.scoring.metrics import Figures


class Session:
    """Runs that take what they are told to."""

    def options(self):
        return object()

    def stop(self, options):
        raise AssertionError(f"nothing here takes so long: {options}")

    def run(self, feeds, options):
        del options
        feeds["take"](2 * TOO_LONG_INLINE_S)
        return [time.perf_counter()]


def compute(seconds):
    """Use the processor."""
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


@pytest.fixture
async def lanes():
    made = Lanes(Session(), threads=1, timeout_s=60, queue=1, figures=Figures())
    made.run_inline()
    yield made
    await made.close()


async def test_a_run_that_computes_for_long(lanes):
    """One run that computes for long is the last on the event loop."""
    assert lanes.inline
    assert lanes.submit(0, lambda: {"take": compute}, lambda values, _: values)
    assert not lanes.inline
    assert await lanes.submit(0, lambda: {"take": compute}, lambda values, _: values)


async def test_a_run_that_is_kept_waiting(lanes):
    """A run that had to wait for the processor says nothing about the model: runs stay where they were."""
    assert lanes.submit(0, lambda: {"take": time.sleep}, lambda values, _: values)
    assert lanes.inline
