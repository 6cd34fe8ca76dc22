"""A namespace of a cluster as a target: one look at what is there, what is lacking, whom to ask, and what can go."""

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from fleet.refusals import TargetTrouble, told
from fleet.targets import door, secret_files
from fleet.targets import groups as rules
from fleet.targets.container.specs import LABEL
from fleet.targets.contract import Found, Job, JobStanding, Standing, Wanted
from fleet.targets.kubernetes import content, counts, front, gateway_route, observed, pods, replicas, rights
from fleet.targets.kubernetes.api import OURS, ROUTE, Api, ApiRefusal, Unanswered
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.content import Contents
from fleet.targets.kubernetes.jobs import Jobs
from fleet.targets.kubernetes.names import TABLE_OF, Names, group_of, labels, part_of, shown
from fleet.targets.kubernetes.observed import Look
from fleet.targets.kubernetes.replicas import Made
from fleet.targets.present import named_by
from modules.errors import EdgefleetError
from modules.names import Slug
from modules.protocol.content import Content
from modules.protocol.endpoint import TABLE, Said
from modules.protocol.routing import Bounds, Table

_SHOWN: Final = 3
_MISSING: Final = 404
_MOST_AT_ONCE: Final = 100_000


class Namespace:
    """``fleet/targets/contract.py`` says what its methods do.

    Args:
        attached: how it is reached.
        fleet: the fleet's mark.
        contents: who writes what pods are told of their modules.
    """

    def __init__(self, attached: Attached, *, fleet: str, contents: Contents) -> None:
        self._attached, self._fleet, self._contents = attached, fleet, contents
        self._client: Api | None = None
        self._connecting = threading.Lock()

    @property
    def _api(self) -> Api:
        with self._connecting:
            if self._client is None:
                self._client = Api(self._attached)
            return self._client

    def check(self) -> dict[str, str]:
        # The rights first: without them nothing else is known for sure.
        if lacking := list(rights.missing(self._api, jobs=bool(self._attached.batch_places))):
            besides = " and rbac-gateway.yaml" if ROUTE in self._api.kinds else ""
            more = f", and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            raise TargetTrouble(
                f"rights are missing in this namespace: {', '.join(lacking[:_SHOWN])}{more}",
                element=f"namespace {self._attached.namespace}",
                remedy=f"apply deploy/kubernetes/rbac.yaml{besides} there",
            )
        self._know_routes()
        return {
            "id": self._id(),
            "engine": f"Kubernetes {self._api.version()}, namespace {self._attached.namespace}",
            "platform": self._attached.platform,
            "gateway_image": self._attached.gateway_image,
        }

    def bring(self, wanted: Wanted) -> Standing:
        names = Names(self._fleet, wanted.name)
        self._same()
        made = replicas.made(self._attached, wanted)
        found = observed.look(self._api, names)
        trouble: list[str] = []
        self._groups(wanted, names, made, found, trouble)
        self._front(wanted, names, found, trouble)
        table = self._table(wanted, made, observed.seen(names, found), observed.said(names, made, found))
        with _noting(trouble):
            self._gateway(wanted, names, found, table)
        self._end(wanted, names, made, found)
        route = found.find(ROUTE, names.gateway) if ROUTE in found.by_kind else None
        trouble += gateway_route.refusals(route)
        service = found.find("Service", names.gateway)
        url = front.url(self._attached, wanted.name, wanted.settings, service, route)
        stands = observed.standing(wanted, names, made, found, trouble, self._api, url=url)
        if not wanted.measured:
            return stands
        secure = front.secure(self._attached, wanted.settings)
        heard = counts.ask(self._api, found, door.keys(wanted), secure=secure)
        return counts.noted(stands, heard, names, made, found)

    def logs(self, endpoint: Slug, *, lines: int) -> dict[str, str]:
        names = Names(self._fleet, endpoint)
        return observed.logs(self._api, observed.look(self._api, names), lines=lines)

    def remove(self, endpoint: Slug) -> bool:
        names = Names(self._fleet, endpoint)
        self._same()
        found = observed.look(self._api, names)
        for kind, listed in found.by_kind.items():
            for one in listed.values():
                self._api.delete(one, kind)
        # Pods end with the answers that they owe; until then something of it is there.
        return not found.pods and not any(found.by_kind.values())

    def bring_job(self, job: Job) -> JobStanding:
        self._same()
        return self._jobs.bring(job)

    def job_logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        return self._jobs.logs(name, lines=lines)

    def end_job(self, name: Slug) -> bool:
        self._same()
        return self._jobs.end(name)

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self._api, self._attached, self._fleet, self._contents)

    def present(self) -> frozenset[Found]:
        self._same()
        mark = f"{LABEL}fleet={self._fleet}"
        return named_by(labels(one) for kind in (*OURS, "Pod") for one in self._api.listed(kind, labels=mark))

    def close(self) -> None:
        with self._connecting, contextlib.suppress(OSError):
            if self._client is not None:
                self._client.close()

    def _know_routes(self) -> None:
        """Whether the cluster has the Gateway API, where it is needed.

        Raises:
            TargetTrouble: it has not.
        """
        if ROUTE not in self._api.kinds:
            return
        try:
            self._api.listed(ROUTE, fields="metadata.name=none")
        except ApiRefusal as error:
            if error.status != _MISSING:
                raise
            raise TargetTrouble(
                "the cluster does not have the Gateway API",
                element=self._attached.gateway,
                remedy="install its HTTPRoute of version v1, or expose by an Ingress",
            ) from error

    def _groups(self, wanted: Wanted, names: Names, made: Sequence[Made], found: Look, trouble: list[str]) -> None:
        """Make the groups what they should be. What one cannot be is noted, and holds up no other."""
        with _noting(trouble):
            for body in front.always(names, self._attached):
                self._apply(body, found)
        for one in made:
            with _noting(trouble):
                group = one.group.name
                if secrets := secret_files.given(one.version, wanted.name):
                    body = content.files(names.secrets(group), names.of("secrets", group), secrets)
                    self._fixed(body, secrets, found)
                told = content.secret(names.content(group), names.of("content", group), self._told(wanted, one))
                self._apply(told, found)
                seen = found.find("Deployment", names.group(group))
                for body in replicas.objects(names, one, wanted.settings, seen=seen):
                    self._apply(body, found)
                if not wanted.settings.autoscale_max:
                    self._drop("HorizontalPodAutoscaler", names.group(group), found)

    def _front(self, wanted: Wanted, names: Names, found: Look, trouble: list[str]) -> None:
        """Make the way to the gateway what it should be."""
        by_ingress = self._attached.expose == "Ingress"
        service = found.find("Service", names.gateway)
        port = wanted.settings.port or wanted.port or (front.node_port(service) if service else 0)
        with _noting(trouble):
            if wanted.settings.certificate and by_ingress:
                self._apply(front.certificate(names, wanted.settings, wanted.certificate_key), found)
            else:
                self._drop("Secret", names.gateway, found)
            for body in front.exposed(names, self._attached, wanted.name, wanted.settings, port):
                self._apply(body, found)
            if not by_ingress:
                self._drop("Ingress", names.gateway, found)

    def _table(self, wanted: Wanted, made: Sequence[Made], seen: rules.Seen, said: Said) -> Table:
        """The table that the gateway is to have; the one that it has, where that says the same."""
        settings = wanted.settings
        most = sum(one.most for one in made)
        bounds = Bounds(
            # Each of the gateways lets its part in, so that together they ask no replica for more than it takes.
            concurrent=min(_MOST_AT_ONCE, max(1, math.ceil(settings.concurrent * most / front.GATEWAYS))),
            waiting=settings.waiting,
            wait_s=settings.wait_s,
        )
        groups = [one.group for one in made]
        keys = {one.name: door.key(wanted, one.name) for one in groups}
        route = rules.route(wanted.name, groups, seen, said, rules.Terms(bounds, settings.answer_s, keys))
        if said.table is not None and said.table.slots == {wanted.name: route}:
            return said.table
        return Table(generation=(said.table.generation if said.table else 0) + 1, slots={wanted.name: route})

    def _gateway(self, wanted: Wanted, names: Names, found: Look, table: Table) -> None:
        files = door.access(wanted) | {TABLE: msgspec.json.encode(table)}
        if not front.secure(self._attached, wanted.settings):
            files = front.without_tls(files)
        secret = front.secret(names, files)
        if not self._fixed(secret, files, found):
            return
        for body in front.gateway(names, self._attached, wanted.settings, secret_name=shown(secret)):
            self._apply(body, found)

    def _fixed(self, secret: dict[str, Any], files: Mapping[str, bytes], found: Look) -> bool:
        """Make a Secret that never changes; whether it is there now."""
        there = found.find("Secret", shown(secret))
        if there is not None and front.is_replaced(there, files):
            # It cannot be changed, so it is made at the next look.
            self._api.delete(there, "Secret")
            return False
        self._apply(secret, found)
        return True

    def _end(self, wanted: Wanted, names: Names, made: Sequence[Made], found: Look) -> None:
        """Take away what nobody wants: groups of before, and Secrets that no gateway has any more."""
        said, groups = observed.said(names, made, found), [one.group for one in made]
        gone = list(rules.surplus(wanted.name, groups, observed.seen(names, found), said))
        ending = {step.name.rpartition(".")[0] for step in gone if isinstance(step, rules.Stop)}
        empty = {step.group for step in gone if isinstance(step, rules.Empty)}
        wants = {group.name for group in groups}
        for kind, listed in found.by_kind.items():
            for one in list(listed.values()):
                group = group_of(one)
                if group not in {"", *wants} and (group in empty or names.group(group) in ending):
                    self._api.delete(one, kind)
        if said.generation is None:
            return
        used = {(pod["metadata"].get("annotations") or {}).get(TABLE_OF, "") for pod in found.pods}
        used |= {observed.secret_of_gateway(names, found)}
        for name, one in found.by_kind["Secret"].items():
            if part_of(one) == "door" and name not in used:
                self._api.delete(one, "Secret")

    def _apply(self, body: dict[str, Any], found: Look) -> None:
        there = found.find(body["kind"], shown(body))
        found.note(body["kind"], self._api.apply(body, ours=there is not None))

    def _drop(self, kind: str, name: str, found: Look) -> None:
        if there := found.by_kind[kind].pop(name, None):
            self._api.delete(there, kind)

    def _told(self, wanted: Wanted, one: Made) -> Content:
        """What a group's pods are told of their module.

        Raises:
            BadSettings: the file of the authorities that they are to trust cannot be read.
        """
        at = self._attached
        told = self._contents.of(
            wanted.name,
            wanted.token_secret,
            one.version.module,
            keys=(door.key(wanted, one.group.name),),
            url=at.content_url,
            room_bytes=pods.room_bytes(one.version.module),
        )
        return content.trusting(at, told)

    def _id(self) -> str:
        return str(self._api.namespace()["metadata"]["uid"])

    def _same(self) -> None:
        """Whether it is the namespace that was attached.

        Raises:
            TargetTrouble: it is another one of its name.
        """
        if self._attached.engine and self._id() != self._attached.engine:
            raise TargetTrouble(
                "another namespace of this name answers than the one that was attached",
                element=f"namespace {self._attached.namespace}",
                remedy="attach it under another name, or bring the old one back",
            )


@contextlib.contextmanager
def _noting(trouble: list[str]) -> Iterator[None]:
    """What goes wrong inside is noted, unless there is no use in going on."""
    try:
        yield
    except Unanswered:
        raise
    except EdgefleetError as error:
        trouble.append(told(error))
