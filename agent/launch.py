"""From a module on the shelf to an instance that is ready, and proved where that is asked."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from agent import socket_folder
from agent.choose import check_there, choose
from agent.clock import Clock
from agent.engines.contract import SOCKET, ContainerEngine, Launch, Task
from agent.engines.docker_spec import DEFAULT_MB
from agent.health import Proved, prove, ready
from agent.secrets_here import SecretFiles
from agent.shelf import Shelf
from agent.slots import Chosen, Placed, Target
from agent.store import Store
from modules.errors import NeedsOperator, NotReady, OverLimit
from modules.manifest import Manifest, Runtime
from modules.names import Slug
from modules.needs import HostFacts

_log = logging.getLogger(__name__)


class Launcher:
    """Names instances, makes their socket folders, starts them and waits for what they must show."""

    def __init__(
        self,
        *,
        store: Store,
        shelf: Shelf,
        instances: Path,
        facts: Callable[[], HostFacts],
        group: int,
        clock: Clock,
        secrets: SecretFiles | None = None,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._instances = instances
        self._facts = facts
        self._group = group if group >= 0 else os.getgid()
        self._clock = clock
        self._secrets = secrets

    def place(self, slot: Slug, of: Target | Placed, manifest: Manifest) -> Placed:
        """Choose the name and the socket of a new instance; nothing is started."""
        number, wanted = self._store.count("instance"), of.wanted
        instance = f"{slot}-{wanted.digest.removeprefix('sha256:')[:8]}-{number}"
        override = wanted.settings.get("probation_s")
        return Placed(
            wanted=wanted,
            routing=of.routing,
            chosen=self._chosen(of, manifest),
            instance=instance,
            # The number alone, because a socket's path holds 107 bytes.
            socket=str(self._instances / str(number) / SOCKET),
            memory_mb=0 if wanted.engine == "process" else _memory_mb(manifest),
            secrets=of.secrets,
            proved=manifest.proof.prove == "samples",
            probation_s=float(override) if isinstance(override, int | float) else manifest.proof.probation_s,
        )

    async def start(
        self, placed: Placed, manifest: Manifest, engine: ContainerEngine, *, prove_it: bool = False
    ) -> Placed:
        """Start an instance and wait until it is ready, or until it has proved itself; names the provider in use.

        Raises:
            NotReady, WrongAnswer, OverLimit: it did not.
            Untrusted, Unfit, Transient, NoEngine, NeedsOperator: it could not be started.
        """
        chosen = self._chosen(placed, manifest)
        check_there(chosen, manifest, self._facts())
        given = await asyncio.to_thread(self.give, placed, manifest)
        launch = self._launch(placed, manifest, chosen)
        await engine.start(launch)
        status = await ready(engine, placed.instance, placed.socket, manifest, self._clock)
        try:
            await asyncio.to_thread(socket_folder.seal, Path(placed.socket).parent)
        except FileNotFoundError as error:
            raise NotReady("the folder of its socket has gone", element=placed.instance) from error
        found = Proved(status.provider_in_use or "", latency_ms=0.0)
        if prove_it:
            samples = self._shelf.samples(placed.wanted.digest, manifest)
            found = await prove(engine, placed.instance, placed.socket, manifest, samples, launch.providers, status)
        return msgspec.structs.replace(placed, provider=found.provider, since=self._clock.monotonic(), given=given)

    def give(self, placed: Placed, manifest: Manifest) -> dict[str, int]:
        """Open the secrets of an instance, and make its folder for them what it is to be; the versions. Blocking.

        Raises:
            NeedsOperator: a required one is not set or does not open here, or there is no memory to write them to.
        """
        if not manifest.declared:
            return {}
        for one in manifest.declared.values():
            if one.required and one.name not in placed.secrets:
                raise NeedsOperator(
                    "the module requires a secret that is not set",
                    element=f"secret {one.name}",
                    remedy="run: edgefleet secrets set",
                )
        if self._secrets is None:
            raise NeedsOperator("this agent has no place for secrets", element="secrets", remedy="set its runtime")
        slot = placed.instance.rsplit("-", 2)[0]
        self._secrets.write(Path(placed.socket).parent.name, slot, placed.secrets, group=self._group)
        return {name: one.version for name, one in placed.secrets.items()}

    def seal(self, placed: Placed) -> None:
        """Close the folder of an instance that may have become ready while no agent was there to do it.

        What else is in it is removed, and said, for the module serves.
        """
        try:
            socket_folder.seal(Path(placed.socket).parent)
        except FileNotFoundError:
            pass  # it does not run
        except OverLimit as error:
            _log.warning("%s: %s", placed.instance, error)

    def clear(self, placed: Placed) -> None:
        """Remove the socket folder of an instance that has ended, and its secrets."""
        folder = Path(placed.socket).parent
        socket_folder.clear(folder)
        if self._secrets is not None:
            self._secrets.clear(folder.name)

    def clear_others(self, instances: Iterable[str]) -> None:
        """Remove the socket folders of all but these instances: an agent that died has left them. Blocking."""
        kept = {instance.rpartition("-")[2] for instance in instances}
        for folder in self._instances.glob("*"):
            if folder.name not in kept:
                socket_folder.clear(folder)
        if self._secrets is not None:
            self._secrets.clear_others(kept)

    def runtime(self, of: Target | Placed, manifest: Manifest) -> Runtime:
        """The runtime that was chosen for it."""
        return manifest.runtimes[self._chosen(of, manifest).runtime]

    def _chosen(self, of: Target | Placed, manifest: Manifest) -> Chosen:
        # A row of an agent from before choices were kept has none.
        return of.chosen or choose(manifest, self._facts(), of.wanted)

    def for_task(self, placed: Placed, manifest: Manifest, instance: str, task: Task, *, more_mb: int) -> Launch:
        """A batch job beside an instance: its module, its way of running, its limits and its secrets, without socket.

        ``more_mb`` is what the program that asks needs besides.

        Raises:
            Transient, NeedsOperator: what it runs on here is not there.
        """
        chosen = self._chosen(placed, manifest)
        check_there(chosen, manifest, self._facts())
        launch = self._described(placed, manifest, chosen)
        memory_mb = launch.memory_mb + more_mb
        return msgspec.structs.replace(launch, instance=instance, socket_dir="", task=task, memory_mb=memory_mb)

    @property
    def group(self) -> int:
        """The group that instances run with."""
        return self._group

    def _launch(self, placed: Placed, manifest: Manifest, chosen: Chosen) -> Launch:
        socket_folder.make(Path(placed.socket).parent, self._group)
        return self._described(placed, manifest, chosen)

    def _described(self, placed: Placed, manifest: Manifest, chosen: Chosen) -> Launch:
        folder = Path(placed.socket).parent
        return Launch(
            instance=placed.instance,
            slot=placed.instance.rsplit("-", 2)[0],
            digest=placed.wanted.digest,
            module_dir=str(self._shelf.path(placed.wanted.digest)),
            socket_dir=str(folder),
            runtime=manifest.runtimes[chosen.runtime],
            providers=chosen.providers,
            memory_mb=_memory_mb(manifest),
            cpu_cores=manifest.proof.limits.cpu_cores,
            group=self._group,
            devices=chosen.access.devices,
            groups=chosen.access.groups,
            gpus=chosen.access.gpus,
            environment=chosen.access.environment,
            secrets_dir=str(self._secrets.folder(folder.name)) if self._secrets and manifest.declared else "",
            settings={name: value for name, value in placed.wanted.settings.items() if name != "probation_s"},
        )


def _memory_mb(manifest: Manifest) -> int:
    """What a container of it is granted."""
    return manifest.proof.limits.memory_mb or manifest.needs.memory_mb or DEFAULT_MB
