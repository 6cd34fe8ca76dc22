"""What processor and memory a module needs: the decision (test_with_docker.py measures for real)."""

import pytest

from fleet.client.local.profile import MEMORY_GB, Run, candidates, recommend
from modules.errors import Invalid, NotReady, Unproved


class Machine:
    """A module whose time is its work divided by the cores it gets, and which needs so much memory."""

    def __init__(self, *, work_ms=10.0, parallel=1.0, peak_mb=200.0, needs_mb=200):
        self.work_ms, self.parallel, self.peak_mb, self.needs_mb = work_ms, parallel, peak_mb, needs_mb
        self.asked = []

    def __call__(self, cpu, memory_mb):
        self.asked.append((cpu, memory_mb))
        if memory_mb and memory_mb < self.needs_mb:
            raise NotReady("the scoring server ended with exit code 137", element="scoring server")
        mean = self.work_ms / min(cpu, self.parallel)
        return Run(
            cpu=cpu, memory_mb=memory_mb, mean_ms=mean, p95_ms=mean * 1.1, per_second=cpu * 100, peak_mb=self.peak_mb
        )


def test_the_fewest_cores_that_are_as_good():
    """A model that uses one core is given one, however many there are."""
    found = recommend(Machine(parallel=1.0), (4.0, 2.0, 1.0, 0.5))

    assert (found.cpu, found.memory_gb) == (1.0, 0.3)


def test_a_model_that_uses_all_cores():
    """Where more cores help, the most are recommended."""
    assert recommend(Machine(parallel=8.0), (4.0, 2.0, 1.0)).cpu == 4.0


def test_a_latency_that_must_be_kept():
    """With a bound the fewest cores that keep it are enough, and a bound that nothing keeps is an error."""
    assert recommend(Machine(parallel=8.0), (4.0, 2.0, 1.0), latency_ms=6.0).cpu == 2.0
    with pytest.raises(Unproved, match="more than 1"):
        recommend(Machine(), (1.0,), latency_ms=1.0)


def test_memory_is_tried_and_not_guessed():
    """A limit in which the module does not start is recorded with its problem, and the next larger one is tried."""
    machine = Machine(peak_mb=60, needs_mb=290)

    found = recommend(machine, (1.0,))

    assert found.memory_gb == 0.3
    assert [(run.memory_mb, bool(run.problem)) for run in found.runs[1:]] == [(103, True), (205, True), (308, False)]


def test_more_memory_than_any_limit():
    """A model that fits nowhere is said to."""
    with pytest.raises(Unproved, match=f"more than {MEMORY_GB[-1]:g} GB"):
        recommend(Machine(peak_mb=1e6), (1.0,))


def test_cores_that_are_not_here():
    """Only what this machine grants can be measured."""
    with pytest.raises(Invalid, match="not here"):
        candidates((10_000.0,))
    assert candidates() == tuple(sorted(candidates(), reverse=True))
