"""Modules in containers: hardened, without a network, and only from images whose digests were signed.

Docker and Podman (its compatible socket) alike. The agent supervises, the engine does not: no restart policy and no
health check, so that exactly one party decides what runs. ``docker_spec`` says what a container is given.

Containers are found by their labels and addressed by their ids. Their names are for people, who may change them, and
several agents may use one engine: agent/installation.py says which containers are whose.
"""

import asyncio
import http.client
import json
import logging
import math
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from agent.engines.contract import Instance, Launch, Usage
from agent.engines.docker_api import CALL_S, ApiError, DockerApi, demultiplexed, segment
from agent.engines.docker_images import (
    Names,
    declared_volumes,
    engine_id,
    has_image,
    image_store,
    keep_image,
    let_go_images,
    load_image,
)
from agent.engines.docker_spec import LABEL, container_name, container_spec
from agent.installation import Installation
from modules.errors import EngineBusy, NoSpace, NotReady, Untrusted
from modules.manifest import Image
from modules.names import DeviceId, Digest
from modules.needs import Engine

# What a process killed by SIGKILL exits with.
KILLED: Final = 137
LOG_LINES: Final = 5000
_MIB: Final = 1 << 20
_NANO: Final = 1_000_000_000
_NOT_STARTED: Final = {"created", "configured", "initialized"}
_RUNNING: Final = {"running", "paused", "restarting", "stopping", "removing"}
# In the words of Docker and of Podman about a name.
_TAKEN: Final = "already in use"
_log = logging.getLogger(__name__)


class DockerEngine:
    """One installation's containers on one engine; implements :class:`agent.engines.contract.ContainerEngine`.

    Each call runs in a worker thread. A cancelled call goes on in its thread until its time limit, and the next
    observation finds what it did.
    """

    name = "docker"

    def __init__(self, device: DeviceId, installation: Installation, api: DockerApi, *, reserve: int = 0) -> None:
        self._device = device
        self._installation = installation
        self._names = Names.of(installation.id)
        #: bytes of the engine's disk that no image may take
        self.reserve = reserve
        self._api = api

    async def facts(self) -> Engine:
        return await asyncio.to_thread(self._facts)

    async def has_image(self, image: Image, blobs: Path) -> bool:
        return await asyncio.to_thread(has_image, self._api, image, blobs)

    async def image_store(self) -> Path | None:
        return await asyncio.to_thread(image_store, self._api)

    async def load_image(self, image: Image, blobs: Path) -> None:
        await asyncio.to_thread(load_image, self._api, image, blobs, reserve=self.reserve, tag=self._names.tag(image))

    async def keep_image(self, image: Image) -> None:
        await asyncio.to_thread(keep_image, self._api, image, self._names)

    async def let_go_images(self, keep: Collection[Image]) -> None:
        await asyncio.to_thread(let_go_images, self._api, keep, self._names)

    async def start(self, launch: Launch) -> Instance:
        return await asyncio.to_thread(self._start, launch)

    async def stop(self, instance: str, *, grace_s: float) -> None:
        await asyncio.to_thread(self._stop, instance, grace_s)

    async def hang_up(self, instance: str) -> None:
        await asyncio.to_thread(self._hang_up, instance)

    async def list(self) -> list[Instance]:
        return list(await asyncio.to_thread(self._all))

    async def namesakes(self) -> Sequence[str]:
        """Names of containers that say they are this device's, and are another installation's."""
        return await asyncio.to_thread(self._namesakes)

    async def logs(self, instance: str, *, tail_bytes: int) -> str:
        return await asyncio.to_thread(self._logs, instance, tail_bytes)

    async def usage(self, instance: str) -> Usage | None:
        return await asyncio.to_thread(self._usage, instance)

    def _facts(self) -> Engine:
        version = self._api.version()
        kind = "Podman" if version.is_podman else "Docker"
        try:
            info = self._api.get("/info")
        except ApiError as error:
            raise EngineBusy(f"the engine could not describe itself: {error.message}", element=kind) from error
        store = f", image store {info.get('Driver', '?')}, cgroup v{info.get('CgroupVersion') or '?'}"
        return Engine(name=self.name, version=version.version, detail=kind + store)

    def _start(self, launch: Launch) -> Instance:
        image = launch.runtime.image
        image_id = None if image is None else engine_id(self._api, image)
        if image is None or image_id is None:
            raise Untrusted(
                "the engine holds no image with the signed digests",
                element=launch.instance,
                remedy="load the image first",
            )
        for folder in launch.folders:
            # Podman would make a missing one.
            if not Path(folder).is_dir():
                raise NotReady("the folder to be mounted is missing", element=folder)
        there = self._found(launch.instance)
        if len(there) == 1:
            found = self._instance(there[0])
            if found.state == "running" and found.digest == launch.digest:
                return found
        self._remove(launch.instance)
        try:
            volumes = declared_volumes(self._api, image)
            body = container_spec(self._device, self._installation.id, launch, image_id=image_id, volumes=volumes)
            made = self._create(body, container_name(self._device, self._installation.id, launch.instance))
            self._api.post(f"{_path(made)}/start")
        except ApiError as error:
            self._remove(launch.instance)
            if "no space left" in error.message.lower():
                raise NoSpace(error.message, element=launch.instance, remedy="free disk space on the device") from error
            raise NotReady(f"the engine could not start it: {error.message}", element=launch.instance) from error
        started = self._inspect(made)
        if started is None:
            raise NotReady("it was removed while it started", element=launch.instance)
        return self._instance(started)

    def _create(self, body: dict[str, Any], name: str) -> str:
        """Make the container and return its id.

        A container of somebody else's may have the name. It is left alone, and ours serves under one of the engine's.
        """
        try:
            return str(self._api.post("/containers/create", body, name=name)["Id"])
        except ApiError as error:
            if _TAKEN not in error.message:
                raise
            _log.warning("a container that is not ours has the name %s: ours gets a name from the engine", name)
        return str(self._api.post("/containers/create", body)["Id"])

    def _stop(self, instance: str, grace_s: float) -> None:
        seconds = math.ceil(grace_s)
        for one in self._ids(instance):
            try:
                self._api.post(f"{_path(one)}/stop", timeout=seconds + CALL_S, t=str(seconds))
            except ApiError as error:
                # Removing by force is the next thing anyway.
                if error.status != http.client.NOT_FOUND and error.status < http.client.INTERNAL_SERVER_ERROR:
                    raise EngineBusy(f"the engine could not stop it: {error.message}", element=instance) from error
        self._remove(instance)

    def _hang_up(self, instance: str) -> None:
        for one in self._found(instance):
            if _state(one) != "running":
                continue
            try:
                self._api.post(f"{_path(one['Id'])}/kill", signal="SIGHUP")
            except ApiError as error:
                # It ended meanwhile.
                if error.status not in {http.client.NOT_FOUND, http.client.CONFLICT}:
                    raise EngineBusy(f"the engine could not signal it: {error.message}", element=instance) from error

    def _remove(self, instance: str) -> None:
        for one in self._ids(instance):
            try:
                self._api.delete(_path(one), force="1", v="1")
            except ApiError as error:
                if error.status != http.client.NOT_FOUND:
                    raise EngineBusy(f"the engine could not remove it: {error.message}", element=instance) from error

    def _all(self) -> Sequence[Instance]:
        # Somebody may have made a second container out of one of ours: of two the one that runs is the instance.
        found = {one.instance: one for one in map(self._instance, self._found())}
        return [found[name] for name in sorted(found)]

    def _found(self, instance: str | None = None) -> Sequence[dict[str, Any]]:
        """The engine's words about our containers, those that run last; all of them, or those of one instance."""
        inspected = [self._inspect(one) for one in self._ids(instance)]
        # One that went away between the two questions is gone.
        return sorted((one for one in inspected if one is not None), key=lambda one: _state(one) == "running")

    def _ids(self, instance: str | None = None) -> Sequence[str]:
        label = f"{LABEL}instance" if instance is None else f"{LABEL}instance={instance}"
        return [one["Id"] for one in self._labelled(label) if self._is_ours(one)]

    def _namesakes(self) -> Sequence[str]:
        listed = self._labelled(f"{LABEL}device={self._device}")
        return sorted((one.get("Names") or [one["Id"]])[0].lstrip("/") for one in listed if not self._is_ours(one))

    def _labelled(self, label: str) -> Sequence[dict[str, Any]]:
        try:
            listed: Sequence[dict[str, Any]] = self._api.get(
                "/containers/json", all="1", filters=json.dumps({"label": [label]})
            )
        except ApiError as error:
            raise EngineBusy(f"the engine could not list containers: {error.message}") from error
        return listed

    def _is_ours(self, listed: dict[str, Any]) -> bool:
        """Whether a container is this installation's: by its label, else by the module that it runs."""
        labels = listed["Labels"]
        if not labels.get(f"{LABEL}instance"):
            return False
        if self._installation.id and labels.get(f"{LABEL}installation") == self._installation.id:
            return True
        # Older Podman lists no mounts.
        mounts = listed.get("Mounts") or (self._inspect(listed["Id"]) or {}).get("Mounts") or ()
        sources = [one.get("Source") for one in mounts]
        return any(source and self._installation.runs_from_here(source) for source in sources)

    def _inspect(self, container: str) -> dict[str, Any] | None:
        """The engine's words about one container; None if there is none."""
        try:
            found: dict[str, Any] = self._api.get(f"{_path(container)}/json")
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise EngineBusy(f"the engine could not show it: {error.message}", element=container) from error
        return found

    def _instance(self, inspected: dict[str, Any]) -> Instance:
        state, labels = inspected["State"], inspected["Config"]["Labels"]
        name, exit_code = _state(inspected), state.get("ExitCode", 0)
        ended = name == "exited"
        # Podman forgets why; whatever we end ourselves is removed, so what lies here killed was killed by the kernel.
        oom = bool(state.get("OOMKilled")) or (self._api.is_podman and ended and exit_code == KILLED)
        return Instance(
            instance=labels[f"{LABEL}instance"],
            # A container that a person has labelled may lack them.
            slot=labels.get(f"{LABEL}slot", ""),
            digest=Digest(labels.get(f"{LABEL}digest", "")),
            state=name,
            exit_code=exit_code if ended else None,
            oom=oom,
            started_at=_unix(state.get("StartedAt", "")),
            image="sha256:" + inspected["Image"].removeprefix("sha256:"),
            detail=state.get("Error") or ("out of memory" if oom else ""),
        )

    def _logs(self, instance: str, tail_bytes: int) -> str:
        found = self._ids(instance)
        if not found:
            return ""
        try:
            stream = self._api.raw(f"{_path(found[-1])}/logs", stdout="1", stderr="1", tail=str(LOG_LINES))
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                return ""
            raise EngineBusy(f"the engine could not show its log: {error.message}", element=instance) from error
        return b"".join(demultiplexed(stream))[-tail_bytes:].decode(errors="replace")

    def _usage(self, instance: str) -> Usage | None:
        found = self._found(instance)
        if not found or _state(found[-1]) != "running":
            return None
        try:
            stats = self._api.get(f"{_path(found[-1]['Id'])}/stats", stream="false", **{"one-shot": "true"})
        except ApiError as error:
            if error.status in {http.client.NOT_FOUND, http.client.CONFLICT}:
                return None
            raise EngineBusy(f"the engine could not measure it: {error.message}", element=instance) from error
        memory = (stats or {}).get("memory_stats") or {}
        if "usage" not in memory:
            # It ended meanwhile.
            return None
        details = memory.get("stats") or {}
        # cgroup v1 and v2 name the page cache that can go at once differently.
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        return Usage(
            memory_mb=max(0, memory["usage"] - cache) / _MIB,
            cpu_s=stats["cpu_stats"]["cpu_usage"]["total_usage"] / _NANO,
            tasks=(stats.get("pids_stats") or {}).get("current", 0),
        )


def _path(container: str) -> str:
    return f"/containers/{segment(container)}"


def _state(inspected: dict[str, Any]) -> Literal["created", "running", "exited"]:
    status = inspected["State"]["Status"].lower()
    return "created" if status in _NOT_STARTED else "running" if status in _RUNNING else "exited"


def _unix(timestamp: str) -> float:
    """An engine's RFC 3339 time in Unix seconds; its zero time (year 1) is 0.0."""
    if not timestamp or timestamp.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(timestamp).timestamp()
