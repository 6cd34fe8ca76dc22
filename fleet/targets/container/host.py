"""A container host as a target: one look at what is there, then what is missing, whom to ask, and what can go."""

import contextlib
import hashlib
import math
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import docker
import docker.errors
import msgspec

from fleet.blobs import Blobs
from fleet.refusals import TargetTrouble, told
from fleet.targets import door, runtimes, secret_files
from fleet.targets import groups as rules
from fleet.targets.container import content, folder, limits, observed, plan, secrets, specs
from fleet.targets.container import front as fronts
from fleet.targets.container.endings import STOP_S, Endings, clear, end, start_again, take_away
from fleet.targets.container.engine import HOST, connect, run, translated
from fleet.targets.container.holder import Holder
from fleet.targets.container.jobs import Jobs
from fleet.targets.container.plan import Front, Seen
from fleet.targets.container.specs import DOOR, Names
from fleet.targets.container.tunnel import Tunnel
from fleet.targets.contract import Found, Job, JobStanding, Module, Standing, Wanted
from fleet.targets.groups import Group
from fleet.targets.present import named_by
from modules import manifest as manifests
from modules.bounds import Region
from modules.canonical import UNREADABLE
from modules.digests import sha256
from modules.errors import EdgefleetError, NotReady
from modules.images import GATEWAY_IMAGE
from modules.manifest import Runtime
from modules.names import Slug
from modules.protocol.endpoint import NEXT, TABLE, Said
from modules.protocol.routing import Bounds, Table

_SPARE_S: Final = 5
_HASH: Final = 8


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """How a container host is reached, and where its endpoints listen.

    ``docker`` is the engine's address; ``ca``, ``certificate`` and ``key`` are files of the fleet server, for TLS.
    Endpoints listen at the host's address ``bind``, and clients find them under ``name``. ``gateway_image`` is the name
    of the gateway's image there. ``engine`` is the engine's own id, so that another one is never taken for it.
    ``region`` is where it is, by which modules say whether their data may go there.
    ``batch_places`` are the folders and volumes of the host that batch jobs may use, with commas between.
    """

    docker: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    bind: str = "127.0.0.1"
    name: str = "127.0.0.1"
    gateway_image: str = GATEWAY_IMAGE
    batch_places: str = ""
    engine: str = ""
    region: Region = ""


class ContainerHost:
    """``fleet/targets/contract.py`` says what its methods do.

    Args:
        attached: how it is reached.
        fleet: the fleet's mark.
        blobs: where modules' files and images are.
        holder: this server's mark on hosts.
    """

    def __init__(self, attached: Attached, *, fleet: str, blobs: Blobs, holder: Holder | None = None) -> None:
        self._attached, self._fleet, self._blobs, self._holder = attached, fleet, blobs, holder or Holder()
        self._client: docker.APIClient | None = None
        self._tunnel: Tunnel | None = None
        self._connecting = threading.Lock()
        # What each gateway's folder held at the last look; a wrong guess costs one more copy.
        self._files: dict[str, dict[str, str]] = {}
        self._endings = Endings()

    @property
    def _api(self) -> docker.APIClient:
        with self._connecting:
            if self._client is None:
                at = self._attached
                if self._tunnel is None and at.docker.startswith("ssh://"):
                    self._tunnel = Tunnel(at.docker)
                self._client = connect(at.docker, ca=at.ca, certificate=at.certificate, key=at.key, tunnel=self._tunnel)
            return self._client

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._attached.docker, self._tunnel.said if self._tunnel else str)

    def check(self) -> dict[str, str]:
        with self._translated():
            info = self._api.info()
            image = self._gateway_image()
        return {
            "id": str(info.get("ID", "")),
            "engine": f"{info.get('OperatingSystem', '')}, {info.get('ServerVersion', '')}",
            "platform": self._platform(info),
            "gateway_image": image,
        }

    def bring(self, wanted: Wanted) -> Standing:
        names = Names(self._fleet, wanted.name)
        with self._translated():
            made = self._wished(wanted, self._platform(self._info()))
            groups = [group for group, _, _ in made]
            image = self._gateway_image()
            front = fronts.made(wanted, image=image, bind=self._attached.bind)
            trouble = self._make(wanted, names, made, front, image)
            seen = observed.look(self._api, names)
            gateway = seen.gateway(front)
            if gateway is None or not gateway.running:
                return observed.standing(wanted, groups, front, seen, Said(), trouble, url="")
            said = self._arrange(wanted, gateway.name, groups, seen)
            gone = list(rules.surplus(wanted.name, groups, seen, said))
            ends = [step.name for step in gone if isinstance(step, rules.Stop)] + plan.retired(front, seen, said)
            # Each may take as long as an answer and a wait.
            owed = math.ceil(wanted.settings.answer_s + wanted.settings.wait_s) + _SPARE_S
            for name in ends:
                self._endings.begin(self._api, name, owed)
            for step in gone:
                if isinstance(step, rules.Empty):
                    self._empty(names, step.group)
            scheme = "https" if wanted.settings.certificate else "http"
            keeper = seen.keeper(front)
            host = wanted.settings.host_name or self._attached.name
            url = f"{scheme}://{host}:{keeper.port}" if keeper is not None and keeper.running else ""
            memory = observed.memory(self._api, seen) if wanted.measured else None
            return observed.standing(wanted, groups, front, seen, said, trouble, url=url, memory=memory)

    def logs(self, endpoint: Slug, *, lines: int) -> dict[str, str]:
        with self._translated():
            return observed.logs(self._api, Names(self._fleet, endpoint), lines=lines)

    def remove(self, endpoint: Slug) -> bool:
        names = Names(self._fleet, endpoint)
        with self._translated():
            self._info()
            everything = observed.containers(self._api, names, all_parts=True)
            # The gateway first: it lets requests finish, and takes no more; the clients' connections are the keeper's.
            order = {"gateway": 0, "keeper": 2}
            for one in sorted(everything, key=lambda one: order.get(one["Labels"][f"{specs.LABEL}part"], 1)):
                end(self._api, one["Id"], within_s=0 if one["Labels"][f"{specs.LABEL}part"] == "keeper" else STOP_S)
            if observed.containers(self._api, names, all_parts=True):
                return False  # some are still going, begun by another look
            for volume in observed.volumes(self._api, names):
                self._api.remove_volume(volume, force=True)
            for network in observed.networks(self._api, names):
                take_away(self._api, network)
            self._forget_images()
        self._files.pop(endpoint, None)
        return True

    def bring_job(self, job: Job) -> JobStanding:
        with self._translated():
            platform = self._platform(self._info())
            return self._jobs.bring(job, runtimes.chosen(job.module, platform), self._tag)

    def job_logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        with self._translated():
            return self._jobs.logs(name, lines=lines)

    def end_job(self, name: Slug) -> bool:
        with self._translated():
            self._info()
            self._jobs.end(name)
            self._forget_images()
        return True

    @property
    def _jobs(self) -> Jobs:
        places = tuple(filter(None, self._attached.batch_places.split(",")))
        return Jobs(self._api, self._fleet, self._blobs, places, self._gateway_image)

    def present(self) -> frozenset[Found]:
        with self._translated():
            self._info(looks_only=True)
            return named_by(observed.labels_of_fleet(self._api, self._fleet))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def _wished(self, wanted: Wanted, platform: str) -> list[tuple[Group, Module, Runtime]]:
        found = []
        for one in wanted.versions:
            runtime = runtimes.chosen(one.module, platform)
            memory = runtimes.memory_mb(one.module, wanted.settings)
            parts: tuple[Any, ...] = (one.module.digest, memory, wanted.settings.cpu_cores, specs.REVISION)
            parts += (runtime.image, *filter(None, (secret_files.mark(wanted, one),)))
            mark = hashlib.sha256(repr(parts).encode()).hexdigest()[:_HASH]
            group = Group(
                name=f"{one.name}-{mark}",
                version=one.name,
                module=str(one.module.manifest.ref),
                count=one.replicas,
                weight=one.weight,
                memory_mb=memory,
            )
            found.append((group, one.module, runtime))
        return found

    def _make(
        self, wanted: Wanted, names: Names, made: list[tuple[Group, Module, Runtime]], front: Front, image: str
    ) -> list[str]:
        """Make what is lacking; what could not be made, in words. One part's trouble holds up no other."""
        trouble = []
        of = {group.name: (group, module, runtime) for group, module, runtime in made}
        secrets_of = {name: one for name, one in zip(of, wanted.versions, strict=True) if one.secrets}
        seen = observed.look(self._api, names)
        failed: set[str] = set()
        for step in plan.lacking([group for group, _, _ in made], front, seen, secrets_of.keys()):
            group = step.group.name if isinstance(step, plan.Fill | plan.Keep | plan.MakeReplica) else ""
            if group in failed:
                continue
            try:
                with self._translated():
                    if isinstance(step, plan.MakeNetwork | plan.MakeKeeper | plan.MakeGateway):
                        self._make_front(step, wanted, names, front, seen, image=image)
                    elif isinstance(step, plan.StartAgain):
                        start_again(self._api, step.name, observed.networks(self._api, names))
                    elif isinstance(step, plan.PutBack):
                        limits.put_back(self._api, step.name)
                    elif isinstance(step, plan.Fill):
                        self._fill(wanted, names, *of[group])
                    elif isinstance(step, plan.Keep):
                        self._keep(names, group, secrets_of[group].secrets, seen)
                    elif isinstance(step, plan.MakeReplica):
                        self._replica(wanted, names, *of[group], number=step.number)
            except EdgefleetError as error:
                failed |= {group} - {""}
                trouble.append(told(error))
        return trouble

    def _make_front(
        self, step: plan.MakeNetwork | plan.MakeKeeper | plan.MakeGateway, wanted: Wanted, names: Names, front: Front,
        seen: Seen, *, image: str,
    ) -> None:  # fmt: skip
        match step:
            case plan.MakeNetwork():
                self._api.create_network(names.whole, check_duplicate=True, **specs.network(names))
            case plan.MakeKeeper():
                fronts.make_keeper(self._api, names, front, seen, image=image, bind=self._attached.bind)
            case plan.MakeGateway():
                fronts.make_gateway(self._api, names, front, wanted, seen, image=image)

    def _fill(self, wanted: Wanted, names: Names, group: Group, module: Module, runtime: Runtime) -> None:
        assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
        secret_files.given(next(one for one in wanted.versions if one.name == group.version), wanted.name)
        image = content.load(self._api, runtime.image, self._blobs, tag=self._tag(runtime))
        clear(self._api, names.filling(group.name), names.labels)
        body = specs.filler(names, group.name, image=image["Id"])
        self._api.create_container_from_config(body, name=names.filling(group.name))
        key = door.key(wanted, group.name)
        with content.files(module, manifests.encode(module.manifest), self._blobs, key=key) as tar:
            self._api.put_archive(names.filling(group.name), specs.CONTENT, tar)
        # By its last name it is known to be whole.
        clear(self._api, names.content(group.name), names.labels)
        self._api.rename(names.filling(group.name), names.content(group.name))

    def _keep(self, names: Names, group: str, given: Mapping[str, bytes], seen: Seen) -> None:
        if secrets.keep(self._api, names.secrets(group), given, image=self._gateway_image()):
            for replica in (one.name for one in seen.replicas if one.group == group):
                end(self._api, replica)

    def _replica(
        self, wanted: Wanted, names: Names, group: Group, module: Module, runtime: Runtime, *, number: int
    ) -> None:
        assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
        del module
        image = content.load(self._api, runtime.image, self._blobs, tag=self._tag(runtime))
        body = specs.replica(
            names, group, number, image=image["Id"], cpu_cores=wanted.settings.cpu_cores,
            providers=runtime.providers, volumes=tuple((image.get("Config") or {}).get("Volumes") or ()),
            secrets=any(one.name == group.version and one.secrets for one in wanted.versions),
        )  # fmt: skip
        named = names.replica(group.name, number)
        created = self._api.create_container_from_config(limits.labelled(body), name=named)
        self._api.start(created["Id"])

    def _arrange(self, wanted: Wanted, gateway: str, groups: list[Group], seen: Seen) -> Said:
        """Give the gateway what is new, and hear how it and the replicas stand."""
        samples = {group.name: self._samples(one.module) for group, one in zip(groups, wanted.versions, strict=True)}
        files = folder.files(wanted, groups, seen, samples)
        said = self._ask(wanted.name, gateway, files)
        ready = sum(one.ready for one in said.replicas.values())
        bounds = Bounds(
            concurrent=wanted.settings.concurrent * max(1, ready),
            waiting=wanted.settings.waiting,
            wait_s=wanted.settings.wait_s,
        )
        keys = {one.name: door.key(wanted, one.name) for one in groups}
        terms = rules.Terms(bounds, wanted.settings.answer_s, keys, wanted.settings.silent_s)
        route = rules.route(wanted.name, groups, seen, said, terms)
        if said.table is not None and said.table.slots == {wanted.name: route}:
            return said
        newest = max(said.generation or 0, said.table.generation if said.table else 0)
        table = Table(generation=newest + 1, slots={wanted.name: route})
        return self._ask(wanted.name, gateway, files | {TABLE: msgspec.json.encode(table)})

    def _ask(self, endpoint: Slug, gateway: str, files: dict[str, bytes]) -> Said:
        known = self._files.get(endpoint, {})
        if new := {name: data for name, data in files.items() if known.get(name) != sha256(data)}:
            self._api.put_archive(gateway, DOOR, content.packed(new, folder=NEXT))
        told = [f"--new={name}={sha256(data)}" for name, data in new.items()] + [f"--keep={name}" for name in files]
        out, wrong = run(self._api, gateway, ["python", "-m", "agent.gateway.ask", DOOR, *told])
        if wrong:
            self._files.pop(endpoint, None)
            raise NotReady(f"its gateway cannot be asked: {wrong}", element=f"endpoint {endpoint}")
        try:
            said = msgspec.json.decode(out or b"", type=Said)
        except UNREADABLE as error:
            raise NotReady(f"its gateway answers nonsense: {error}", element=f"endpoint {endpoint}") from error
        self._files[endpoint] = dict(said.files)
        return said

    def _samples(self, module: Module) -> bytes:
        proof = module.manifest.proof
        if proof.prove == "ready-only":
            return b""
        return self._blobs.read(module.manifest.file(proof.samples).sha256)

    def _empty(self, names: Names, group: str) -> None:
        """Take a group's files away, the whole ones and those of which only some came."""
        kept = names.secrets(group)
        for container in (names.content(group), names.filling(group), kept.name, kept.giving):
            clear(self._api, container, names.labels)
        for volume in (names.content(group), kept.name):
            with contextlib.suppress(docker.errors.NotFound):
                self._api.remove_volume(volume)
        self._forget_images()

    def _forget_images(self) -> None:
        """Let go of the images that no container of this fleet's endpoints needs any more."""
        needed = {one["ImageID"] for one in observed.containers_of_fleet(self._api, self._fleet)}
        for image in self._api.images(name=self._repository):
            for tag in image.get("RepoTags") or ():
                if image["Id"] not in needed and tag.startswith(f"{self._repository}:"):
                    # Somebody else's container may use it; then it stays, and goes with the next look.
                    with contextlib.suppress(docker.errors.APIError):
                        self._api.remove_image(tag)
        if not needed:
            self._holder.leave(self._api, self._fleet, str(self._api.info().get("ID")))

    @property
    def _repository(self) -> str:
        return f"edgefleet.local/cloud-{self._fleet}"

    def _tag(self, runtime: Runtime) -> str:
        assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
        return f"{self._repository}:{runtime.image.config.sha256.removeprefix('sha256:')[:16]}"

    def _gateway_image(self) -> str:
        """The id of the gateway's image.

        Raises:
            TargetTrouble: it is not on the host.
        """
        name = self._attached.gateway_image
        try:
            return str(self._api.inspect_image(name)["Id"])
        except docker.errors.ImageNotFound as error:
            raise TargetTrouble(
                f"the gateway's image {name} is not on this host",
                element=HOST,
                remedy="run: edgefleet images build --gateway, with DOCKER_HOST naming this host",
            ) from error

    def _info(self, *, looks_only: bool = False) -> dict[str, Any]:
        """What the engine says of itself.

        Raises:
            TargetTrouble: it is another one than was attached, or another fleet server has begun to work there.
        """
        found: dict[str, Any] = self._api.info()
        if self._attached.engine and found.get("ID") != self._attached.engine:
            raise TargetTrouble(
                "another engine answers there than the one that was attached",
                element=HOST,
                remedy="attach it under another name, or bring the old one back",
            )
        self._holder.check(self._api, self._fleet, str(found.get("ID")), looks_only=looks_only)
        return found

    @staticmethod
    def _platform(info: dict[str, Any]) -> str:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(info.get("Architecture", ""), info.get("Architecture"))
        return f"{info.get('OSType', 'linux')}/{machine}"
