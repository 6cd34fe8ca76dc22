"""Policies of fallbacks as the API shows them: what they say, how their endpoints stand, and what those have cost."""

from typing import Any

from sqlalchemy import Connection, select

from fleet.fallbacks import costs, policies
from fleet.fallbacks.answering import why_not
from fleet.refusals import Missing
from fleet.registry import Registry
from fleet.target_tables import endpoints
from fleet.targets.scaling import standing_of


def in_short(connection: Connection, now: float, row: Any) -> dict[str, Any]:
    """A policy, and how its endpoint stands."""
    found = policies.view(row)
    one = policies.known(row)
    found |= {"spent": one.is_spent(now), "state": "", "why": ""}
    if not one.endpoint:
        return found
    endpoint = connection.execute(select(endpoints).where(endpoints.c.name == one.endpoint)).one_or_none()
    if endpoint is None:
        return found | {"state": "gone", "why": "there is no such endpoint"}
    why = endpoint.scale_why or standing_of(endpoint).why
    return found | {"state": endpoint.state, "why": why, "costs": costs.view(connection, now, endpoint)}


def whole(connection: Connection, now: float, registry: Registry, row: Any) -> dict[str, Any]:
    """The same, and of each version that devices have why the policy says nothing for it."""
    one, refused = policies.known(row), {}
    if not one.never:
        for module in policies.in_use(connection, row.team, row.model):
            try:
                manifest, _ = registry.signed(connection, module)
            except Missing:
                continue
            if why := why_not(connection, one, manifest):
                refused[str(module)] = why
    return in_short(connection, now, row) | {"refused": refused, "ca": one.policy.terms.get("ca", "")}
