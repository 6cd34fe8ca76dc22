"""A container host as a target: one look at what is there, then what is missing, whom to ask, and what can go."""

import contextlib
import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import docker
import docker.errors
import msgspec

from fleet.blobs import Blobs
from fleet.refusals import TargetTrouble
from fleet.targets import door, runtimes, secret_files
from fleet.targets import groups as rules
from fleet.targets.container import content, folder, observed, plan, secrets, specs
from fleet.targets.container.engine import connect, run, translated
from fleet.targets.container.jobs import Jobs
from fleet.targets.container.plan import Seen
from fleet.targets.container.specs import DOOR, Names
from fleet.targets.contract import Job, JobStanding, Module, Standing, Wanted
from fleet.targets.groups import Group
from modules import manifest as manifests
from modules.bounds import Region
from modules.digests import sha256
from modules.errors import EdgefleetError, NotReady
from modules.images import GATEWAY_IMAGE
from modules.manifest import Runtime
from modules.names import Slug
from modules.protocol.endpoint import NEXT, TABLE, Said
from modules.protocol.routing import Bounds, Table

# A stopped replica finishes what it has; the scoring server gives it 30 s.
_STOP_S: Final = 35
_ENDING: Final = 8
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
    """

    def __init__(self, attached: Attached, *, fleet: str, blobs: Blobs) -> None:
        self._attached, self._fleet, self._blobs = attached, fleet, blobs
        self._client: docker.APIClient | None = None
        self._connecting = threading.Lock()
        # What each gateway's folder held at the last look; a wrong guess costs one more copy.
        self._files: dict[str, dict[str, str]] = {}

    @property
    def _api(self) -> docker.APIClient:
        with self._connecting:
            if self._client is None:
                at = self._attached
                self._client = connect(at.docker, ca=at.ca, certificate=at.certificate, key=at.key)
            return self._client

    def check(self) -> dict[str, str]:
        with translated(self._attached.docker):
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
        with translated(self._attached.docker):
            made = self._wished(wanted, self._platform(self._info()))
            groups = [group for group, _, _ in made]
            front = self._front(wanted)
            trouble = self._make(wanted, names, made, front)
            seen = observed.look(self._api, names)
            if seen.gateway is None or not seen.gateway.running:
                return observed.standing(wanted, groups, seen, Said(), trouble, url="")
            said = self._arrange(wanted, names, groups, seen)
            gone = list(rules.surplus(wanted.name, groups, seen, said))
            # They end beside each other: each may take as long as an answer.
            with ThreadPoolExecutor(_ENDING) as ending:
                list(ending.map(self._end, [step.name for step in gone if isinstance(step, rules.Stop)]))
            for step in gone:
                if isinstance(step, rules.Empty):
                    self._empty(names, step.group)
            scheme = "https" if wanted.settings.certificate else "http"
            url = f"{scheme}://{wanted.settings.host_name or self._attached.name}:{seen.gateway.port}"
            memory = observed.memory(self._api, seen) if wanted.measured else None
            return observed.standing(wanted, groups, seen, said, trouble, url=url, memory=memory)

    def logs(self, endpoint: Slug, *, lines: int) -> dict[str, str]:
        with translated(self._attached.docker):
            return observed.logs(self._api, Names(self._fleet, endpoint), lines=lines)

    def remove(self, endpoint: Slug) -> bool:
        names = Names(self._fleet, endpoint)
        with translated(self._attached.docker):
            self._info()
            everything = observed.containers(self._api, names, all_parts=True)
            # The gateway first: it lets requests finish, and takes no more.
            for one in sorted(everything, key=lambda one: one["Labels"][f"{specs.LABEL}part"] != "gateway"):
                self._end(one["Id"])
            for volume in observed.volumes(self._api, names):
                self._api.remove_volume(volume, force=True)
            for network in observed.networks(self._api, names):
                self._api.remove_network(network)
            self._forget_images()
        self._files.pop(endpoint, None)
        return True

    def bring_job(self, job: Job) -> JobStanding:
        with translated(self._attached.docker):
            platform = self._platform(self._info())
            return self._jobs.bring(job, runtimes.chosen(job.module, platform), self._tag)

    def job_logs(self, name: Slug, *, lines: int) -> dict[str, str]:
        with translated(self._attached.docker):
            return self._jobs.logs(name, lines=lines)

    def end_job(self, name: Slug) -> bool:
        with translated(self._attached.docker):
            self._info()
            self._jobs.end(name)
            self._forget_images()
        return True

    @property
    def _jobs(self) -> Jobs:
        return Jobs(self._api, self._fleet, self._blobs, tuple(filter(None, self._attached.batch_places.split(","))))

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

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

    def _front(self, wanted: Wanted) -> plan.SeenGateway:
        parts = (self._gateway_image(), self._attached.bind, bool(wanted.settings.certificate), specs.REVISION)
        made = hashlib.sha256(repr(parts).encode()).hexdigest()[:_HASH]
        return plan.SeenGateway(made=made, running=True, port=wanted.settings.port or wanted.port)

    def _make(
        self, wanted: Wanted, names: Names, made: list[tuple[Group, Module, Runtime]], front: plan.SeenGateway
    ) -> list[str]:
        """Make what is lacking; what could not be made, in words. One part's trouble holds up no other."""
        trouble = []
        of = {group.name: (group, module, runtime) for group, module, runtime in made}
        version = dict(zip(of, wanted.versions, strict=True))
        secretive = {name for name, one in version.items() if one.secrets}
        seen = observed.look(self._api, names)
        failed: set[str] = set()
        for step in plan.lacking([group for group, _, _ in made], front, seen, secretive):
            group = step.group.name if isinstance(step, plan.Fill | plan.Keep | plan.MakeReplica) else ""
            if group in failed:
                continue
            try:
                with translated(self._attached.docker):
                    match step:
                        case plan.MakeNetwork():
                            self._api.create_network(
                                names.whole,
                                driver="bridge",
                                internal=True,
                                labels=names.labels,
                                check_duplicate=True,
                                # Without it the host itself has an address in there, and answers.
                                options={"com.docker.network.bridge.inhibit_ipv4": "true"},
                            )
                        case plan.Fill():
                            secret_files.given(version[group], wanted.name)
                            self._fill(wanted, names, *of[group])
                        case plan.Keep():
                            self._keep(names, group, version[group].secrets, seen)
                        case plan.MakeReplica(number=number):
                            self._replica(wanted, names, *of[group], number=number)
                        case plan.StartAgain(name=name):
                            self._api.start(name)
                        case plan.MakeGateway():
                            self._gateway(wanted, names, front)
            except EdgefleetError as error:
                failed.add(group)
                trouble.append(str(error))
        return trouble

    def _fill(self, wanted: Wanted, names: Names, group: Group, module: Module, runtime: Runtime) -> None:
        assert runtime.image is not None  # noqa: S101 - for mypy: none is chosen without
        image = content.load(self._api, runtime.image, self._blobs, tag=self._tag(runtime))
        self._end(names.filling(group.name))
        body = specs.filler(names, group.name, image=image["Id"])
        self._api.create_container_from_config(body, name=names.filling(group.name))
        key = door.key(wanted, group.name)
        with content.files(module, manifests.encode(module.manifest), self._blobs, key=key) as tar:
            self._api.put_archive(names.filling(group.name), specs.CONTENT, tar)
        # By its last name it is known to be whole.
        self._api.rename(names.filling(group.name), names.content(group.name))

    def _keep(self, names: Names, group: str, given: Mapping[str, bytes], seen: Seen) -> None:
        for container in (names.secrets(group), names.giving(group)):
            self._end(container)
        if secrets.keep(self._api, names, group, given, image=self._gateway_image()):
            for replica in (one.name for one in seen.replicas if one.group == group):
                self._end(replica)

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
        created = self._api.create_container_from_config(body, name=names.replica(group.name, number))
        self._api.start(created["Id"])

    def _gateway(self, wanted: Wanted, names: Names, front: plan.SeenGateway) -> None:
        port = front.port or self._free_port(wanted, names, front)
        created = self._made_gateway(wanted, names, front, port)
        self._api.start(created)

    def _free_port(self, wanted: Wanted, names: Names, front: plan.SeenGateway) -> int:
        """A port that the host has free: the engine gives one, and would give another after each restart."""
        created = self._made_gateway(wanted, names, front, 0)
        self._api.start(created)
        ports = self._api.inspect_container(created)["NetworkSettings"]["Ports"]
        return int(ports[f"{specs.GATEWAY_PORT}/tcp"][0]["HostPort"])

    def _made_gateway(self, wanted: Wanted, names: Names, front: plan.SeenGateway, port: int) -> str:
        self._end(names.gateway)
        body = specs.gateway(
            names, image=self._gateway_image(), made=front.made, bind=self._attached.bind, port=port,
            tls=bool(wanted.settings.certificate),
        )  # fmt: skip
        created = self._api.create_container_from_config(body, name=names.gateway)
        # It does not start without its keys.
        self._api.put_archive(created["Id"], DOOR, content.packed(door.access(wanted), folder=""))
        self._api.connect_container_to_network(created["Id"], names.whole)
        return str(created["Id"])

    def _arrange(self, wanted: Wanted, names: Names, groups: list[Group], seen: Seen) -> Said:
        """Give the gateway what is new, and hear how it and the replicas stand."""
        samples = {group.name: self._samples(one.module) for group, one in zip(groups, wanted.versions, strict=True)}
        files = folder.files(wanted, groups, seen, samples)
        said = self._ask(wanted.name, names, files)
        ready = sum(one.ready for one in said.replicas.values())
        bounds = Bounds(
            concurrent=wanted.settings.concurrent * max(1, ready),
            waiting=wanted.settings.waiting,
            wait_s=wanted.settings.wait_s,
        )
        keys = {one.name: door.key(wanted, one.name) for one in groups}
        route = rules.route(wanted.name, groups, seen, said, rules.Terms(bounds, wanted.settings.answer_s, keys))
        if said.table is not None and said.table.slots == {wanted.name: route}:
            return said
        newest = max(said.generation or 0, said.table.generation if said.table else 0)
        table = Table(generation=newest + 1, slots={wanted.name: route})
        return self._ask(wanted.name, names, files | {TABLE: msgspec.json.encode(table)})

    def _ask(self, endpoint: Slug, names: Names, files: dict[str, bytes]) -> Said:
        known = self._files.get(endpoint, {})
        if new := {name: data for name, data in files.items() if known.get(name) != sha256(data)}:
            self._api.put_archive(names.gateway, DOOR, content.packed(new, folder=NEXT))
        told = [f"--new={name}={sha256(data)}" for name, data in new.items()] + [f"--keep={name}" for name in files]
        out, wrong = run(self._api, names.gateway, ["python", "-m", "agent.gateway.ask", DOOR, *told])
        if wrong:
            self._files.pop(endpoint, None)
            raise NotReady(f"its gateway cannot be asked: {wrong}", element=f"endpoint {endpoint}")
        try:
            said = msgspec.json.decode(out or b"", type=Said)
        except msgspec.DecodeError as error:
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
        for container in (names.content(group), names.filling(group), names.secrets(group), names.giving(group)):
            self._end(container)
        for volume in (names.content(group), names.secrets(group)):
            with contextlib.suppress(docker.errors.NotFound):
                self._api.remove_volume(volume)
        self._forget_images()

    def _end(self, container: str) -> None:
        """Stop a container, with the answers that it owes, and remove it; nothing where it is not there."""
        try:
            self._api.stop(container, timeout=_STOP_S)
            self._api.remove_container(container, force=True, v=True)
        except docker.errors.NotFound:
            pass

    def _forget_images(self) -> None:
        """Let go of the images that no container of this fleet's endpoints needs any more."""
        needed = {one["ImageID"] for one in observed.containers_of_fleet(self._api, self._fleet)}
        for image in self._api.images(name=self._repository):
            for tag in image.get("RepoTags") or ():
                if image["Id"] not in needed and tag.startswith(f"{self._repository}:"):
                    # Somebody else's container may use it; then it stays, and goes with the next look.
                    with contextlib.suppress(docker.errors.APIError):
                        self._api.remove_image(tag)

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
                element=self._attached.docker,
                remedy="run: edgefleet images build --gateway, with DOCKER_HOST naming this host",
            ) from error

    def _info(self) -> dict[str, Any]:
        """What the engine says of itself.

        Raises:
            TargetTrouble: it is another one than was attached.
        """
        found: dict[str, Any] = self._api.info()
        if self._attached.engine and found.get("ID") != self._attached.engine:
            raise TargetTrouble(
                "another engine answers there than the one that was attached",
                element=self._attached.docker,
                remedy="attach it under another name, or bring the old one back",
            )
        return found

    @staticmethod
    def _platform(info: dict[str, Any]) -> str:
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(info.get("Architecture", ""), info.get("Architecture"))
        return f"{info.get('OSType', 'linux')}/{machine}"
