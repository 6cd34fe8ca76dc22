"""A policy's form: what is written in its fields becomes what the server reads."""

from typing import get_args

import pytest

from fleet.console import policy_form
from fleet.console.policy_form import Unreadable, waves_of
from fleet.rollouts import gates
from fleet.rollouts.policy import PRESETS, read


def test_the_form_offers_what_the_server_knows():
    """Every preset and measure, each with the limits that it takes."""
    assert set(policy_form.MEANS) == set(PRESETS) - {"traffic"}  # endpoints have that
    assert {one: gates.limits(one) for one in get_args(gates.Measure)} == policy_form.LIMITS


def test_waves_are_written_as_on_the_command_line():
    """With commas between them; a selector of two terms keeps both."""
    found = waves_of("1, ring=canary and site=berlin, 12.5%, x2")
    assert found == [{"count": 1}, {"label": "ring=canary,site=berlin"}, {"percent": 12.5}, {"growth": 2.0}]
    assert len(read({"waves": found}).waves) == 4
    assert waves_of(" , ") == []


@pytest.mark.parametrize("text", ["ten", "10 pieces", "%", "x", "-1"])
def test_what_is_no_wave_is_told_with_how_to_write_one(text):
    """It is not sent, and says so before the server does."""
    with pytest.raises(Unreadable, match="is no wave: write 5, 10%, x2 or ring=canary"):
        waves_of(f"1, {text}")
