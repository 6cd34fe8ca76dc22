"""What a policy would change, before it is set or removed: for which slots another answers, and who."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from fleet import selectors
from fleet.fallbacks import policies
from fleet.fallbacks.answering import has_own_terms, why_not
from fleet.fallbacks.policies import Known, Policy
from fleet.people.scope import Scope
from fleet.registry import Registry
from modules.names import Digest, ModuleRef, Slug
from modules.protocol.order import SlotOrder

#: So many of the slots that change are named.
NAMED: Final = 100
_NOT_SHOWN: Final = "another policy, which your rights do not show"


def of(
    connection: Connection, registry: Registry, team: Slug, model: Slug, group: str, policy: Policy | None, scope: Scope
) -> dict[str, Any]:
    """Whose orders change with this policy in the place of the one for this group; None: with none there.

    Of slots whose rollout says itself who answers nothing changes, nor of those that a more specific policy is for.
    ``refused`` names versions for which it would say nothing, and why.
    """
    every = policies.read(connection)
    known = next((one for one in every if (one.team, one.model, str(one.selector)) == (team, model, group)), None)
    after = [one for one in every if one is not known]
    if policy is not None:
        # A new one is the newest.
        ident = known.id if known else 1 + max((one.id for one in every), default=0)
        after.append(Known(ident, team, model, selectors.parse(group), policy, -1))
    wanted, words = selectors.parse(group), _Words(connection, registry, scope)
    named: list[dict[str, str]] = []
    devices, slots, others, refused = set[str](), 0, 0, dict[str, str]()
    for one in policies.ordered(connection, team, model):
        if not wanted.matches(one.labels):
            continue
        document = msgspec.json.decode(one.document, type=SlotOrder)
        module = ModuleRef.from_target(document.manifest)
        before, then = (policies.winner(some, module, one.labels) for some in (every, after))
        if then is not None and not has_own_terms(document) and (why := words.why_not(then, document.digest)):
            refused[str(module)] = why
        if has_own_terms(document) or words.key(before, document.digest) == words.key(then, document.digest):
            others += 1
            continue
        slots += 1
        devices.add(one.device)
        if len(named) < NAMED:
            who = {"before": words.of(before, document.digest), "after": words.of(then, document.digest)}
            named.append({"device": one.device, "slot": one.slot, "module": str(module)} | who)
    counts = {"group": group, "devices": len(devices), "slots": slots, "unchanged": others}
    return counts | {"refused": refused, "named": named}


class _Words:
    """Who answers by a policy, in words; each policy is asked once about each version."""

    def __init__(self, connection: Connection, registry: Registry, scope: Scope) -> None:
        self._connection, self._registry, self._scope = connection, registry, scope
        self._refused: dict[tuple[int, Digest, str], str] = {}

    def key(self, one: Known | None, digest: Digest) -> tuple[Any, ...]:
        """What an order would say, to be compared."""
        if one is None or self.why_not(one, digest):
            return ()
        return () if one.never else (one.policy.fallback, sorted(one.policy.terms.items()))

    def of(self, one: Known | None, digest: Digest) -> str:
        if one is None:
            return "nobody"
        if not policies.lies_in(self._scope, one.team, str(one.selector)):
            return _NOT_SHOWN
        if one.never:
            return "nobody, ever"
        if self.why_not(one, digest):
            return "nobody"
        terms = [f"{name} {value}" for name, value in sorted(one.policy.terms.items()) if name not in {"when", "ca"}]
        who = f"endpoint {one.endpoint}" if one.endpoint else one.policy.fallback
        return "; ".join([f"{who} when {', '.join(sorted(one.when))}", *terms])

    def why_not(self, one: Known, digest: Digest) -> str:
        """Why a policy says nothing for a version; empty: it does, or is never."""
        if one.never:
            return ""
        found = self._refused.get((one.id, digest, one.policy.fallback))
        if found is None:
            found = why_not(self._connection, one, self._registry.manifest(digest))
            self._refused[one.id, digest, one.policy.fallback] = found
        return found
