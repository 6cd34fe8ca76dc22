"""What the overview says of what needs somebody."""

from typing import get_args

from fleet import attention
from fleet.console import overview_parts


def test_whatever_needs_somebody_says_where_it_leads():
    """Each in its own words: two of a kind are told apart by what they are about."""
    assert set(overview_parts.WAYS) == set(get_args(attention.Kind))
    rollouts = [{"kind": "rollout-failed", "about": f"rollout {one}", "go": f"/rollouts/{one}"} for one in (7, 8)]
    lists = [{"kind": one, "about": "devices", "go": f"/devices?state={one}"} for one in ("offline", "degraded")]
    said = [overview_parts.way(one) for one in (*rollouts, *lists)]
    assert said == ["Open rollout 7", "Open rollout 8", "List offline devices", "List degraded devices"]
