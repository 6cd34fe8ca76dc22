"""Who asks, and whether he may: bearer tokens, client certificates, and RBAC over the Role objects that are there."""

import itertools
import secrets
from typing import Any

import msgspec

from tests.doubles.kubernetes import kinds, refusals
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.store import Store

MASTERS = "system:masters"
_EVERYBODY = ("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version")
_ANONYMOUS = ("/healthz", "/livez", "/readyz", "/version")
_REVIEWS = {kinds.SELF_ACCESS, kinds.SELF_RULES}


class User(msgspec.Struct, frozen=True):
    name: str
    groups: tuple[str, ...] = ()

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name, where it is a service account."""
        parts = self.name.split(":")
        return (parts[2], parts[3]) if self.name.startswith("system:serviceaccount:") else None


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Action(msgspec.Struct, frozen=True):
    """What is asked for; ``path`` where it is about no resource."""

    verb: str
    kind: Kind | None = None
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""

    @property
    def resource(self) -> str:
        plural = self.kind.plural if self.kind else ""
        return f"{plural}/{self.subresource}" if self.subresource else plural


class Access:
    """``tokens`` may be taken away at any time, as when a credential expires."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tokens: dict[str, User] = {}

    def token(self, user: User) -> str:
        token = secrets.token_urlsafe(32)
        self.tokens[token] = user
        return token

    def user(self, authorization: str, certificate: dict[str, Any] | None) -> User:
        """The certificate's subject (CN is the name, each O a group), or the token's owner; 401 for a wrong token."""
        if certificate:
            subject = [pair for part in certificate["subject"] for pair in part]
            name = next(value for key, value in subject if key == "commonName")
            groups = tuple(value for key, value in subject if key == "organizationName")
            return User(name, (*groups, "system:authenticated"))
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        user = self.tokens.get(token) if scheme == "Bearer" else None
        if user is None or not self._exists(user):
            raise refusals.unauthorized()
        return user

    def _exists(self, user: User) -> bool:
        if (account := user.account) is None:
            return True
        return self._store.get(kinds.SERVICE_ACCOUNT, *account) is not None

    def check(self, user: User, action: Action) -> None:
        """403, in the words of the real server, unless a rule allows it."""
        if self.allowed(user, action):
            return
        if action.kind is None:
            why = f'User "{user.name}" cannot {action.verb} path "{action.path}"'
            raise refusals.Refused(403, "Forbidden", f"forbidden: {why}", {})
        where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
        why = (
            f'User "{user.name}" cannot {action.verb} resource "{action.resource}" in API group '
            f'"{action.kind.group}" {where}'
        )
        raise refusals.forbidden(action.kind, action.name, why)

    def allowed(self, user: User, action: Action) -> bool:
        if MASTERS in user.groups:
            return True
        if action.kind is None:
            paths = _EVERYBODY if user is not ANONYMOUS else _ANONYMOUS
            return any(action.path == path or action.path.startswith(f"{path}/") for path in paths)
        if action.kind in _REVIEWS and action.verb == "create":
            return user is not ANONYMOUS
        return any(_allows(rule, action) for rule in self.rules(user, action.namespace))

    def rules(self, user: User, namespace: str) -> list[dict[str, Any]]:
        """Those of cluster roles, and of the namespace's roles, that are bound to this user."""
        found: list[dict[str, Any]] = []
        bindings = self._store.all(kinds.CLUSTER_ROLE_BINDING)
        if namespace:
            bindings += self._store.all(kinds.ROLE_BINDING, namespace)
        for binding in bindings:
            if any(_is(subject, user) for subject in binding.get("subjects", ())):
                reference = binding["roleRef"]
                kind = kinds.of(reference["kind"])
                role = self._store.get(kind, binding["metadata"].get("namespace", ""), reference["name"]) or {}
                found += role.get("rules") or ()
        return found

    def see_no_escalation(self, user: User, kind: Kind, thing: dict[str, Any]) -> None:
        """Nobody grants what he has not got."""
        if MASTERS in user.groups or kind not in {kinds.ROLE, kinds.CLUSTER_ROLE}:
            return
        held = self.rules(user, thing["metadata"].get("namespace", ""))
        extra = [
            f'{{APIGroups:["{group}"], Resources:["{resource}"], Verbs:["{verb}"]}}'
            for rule in thing.get("rules") or ()
            for group, resource, verb in itertools.product(
                rule.get("apiGroups", ()), rule.get("resources", ()), rule["verbs"]
            )
            if not any(_covers(one, group, resource, verb) for one in held)
        ]
        if extra:
            who = f'user "{user.name}" (groups={list(user.groups)})'
            why = f"{who} is attempting to grant RBAC permissions not currently held:\n" + "\n".join(extra)
            raise refusals.forbidden(kind, thing["metadata"].get("name", ""), why)


def _is(subject: dict[str, Any], user: User) -> bool:
    if subject["kind"] == "ServiceAccount":
        return user.account == (subject.get("namespace"), subject["name"])
    return subject["name"] == user.name if subject["kind"] == "User" else subject["name"] in user.groups


def _covers(rule: dict[str, Any], group: str, resource: str, verb: str) -> bool:
    return (
        bool({"*", verb} & set(rule["verbs"]))
        and bool({"*", group} & set(rule.get("apiGroups", ())))
        and bool({"*", resource, f"*/{resource.partition('/')[2]}"} & set(rule.get("resources", ())))
    )


def _allows(rule: dict[str, Any], action: Action) -> bool:
    assert action.kind is not None
    names = rule.get("resourceNames")
    return _covers(rule, action.kind.group, action.resource, action.verb) and (not names or action.name in names)
