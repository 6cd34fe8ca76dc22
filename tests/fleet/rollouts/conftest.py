"""A fleet of three, unless a file makes another one."""

import pytest

from tests.fleet.rollouts.three import THREE


@pytest.fixture
def fleet(small_fleet):
    for name in THREE:
        small_fleet.add_device(name)
    return small_fleet
