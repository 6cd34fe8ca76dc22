"""What the agent asks of whatever starts modules; ``docker`` and ``process`` answer it.

An engine holds no memory of its own: :meth:`ContainerEngine.list` finds what runs after any restart of the agent, and
nothing that serves is a child whose life hangs on the agent's. Each engine sees only the instances of the installation
it was made for (agent/installation.py), so that two agents on one machine leave each other alone.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from modules.errors import BadSettings
from modules.manifest import Image, Runtime
from modules.names import Digest
from modules.needs import Engine

SOCKET: Final = "s.sock"
# Where an instance finds its folders inside a container.
MODULE_MOUNT: Final = "/module"
SOCKET_MOUNT: Final = "/run/edgefleet"
SECRETS_MOUNT: Final = "/run/secrets"
SECRETS_VARIABLE: Final = "EDGEFLEET_SECRETS"
#: How the instance of a batch job begins, which no slot's does: a slot's name has no dot.
BATCH: Final = "batch."
# The kernel's sockaddr_un.sun_path holds 108 bytes, the terminating zero included.
SOCKET_PATH_MAX: Final = 107
# Below the folder of instances, as long as a socket's name becomes in the life of a device.
LONGEST_SOCKET: Final = f"999999/{SOCKET}"


def check_socket(path: Path) -> Path:
    """Return the path, which is short enough for a socket.

    Raises:
        BadSettings: longer than the kernel can bind; that is the host's fault, and no module's.
    """
    length = len(bytes(path))
    if length > SOCKET_PATH_MAX:
        raise BadSettings(
            f"a socket's path holds at most {SOCKET_PATH_MAX} bytes, this has {length}",
            element=str(path),
            remedy="set a shorter runtime",
        )
    return path


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job's part of a launch: the command, the two folders that it gets, and how large a file it may make."""

    command: tuple[str, ...]
    arguments: tuple[str, ...]
    inputs: str
    outputs: str
    file_bytes: int


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine needs to start one instance.

    ``instance`` is unique on the device (``<slot>-<8 hex digits of the digest>-<n>``), ``digest`` is the module
    manifest's. ``module_dir`` holds ``manifest.json`` and ``files/`` and is read-only to the instance; ``socket_dir``
    (mode 2770, group ``group``) is where it makes ``s.sock``. Memory is in MiB. ``devices`` are device nodes on the
    host, ``groups`` the numeric groups that own them, ``gpus`` what the NVIDIA container toolkit is asked for (``all``,
    or ids). ``secrets_dir`` holds its secrets, in memory; empty: it has none. ``providers`` is the order that the
    host's hardware allows; ``settings`` the order's adjustable ones. With a ``task`` it is no scoring server but a
    batch job, which has no socket.
    """

    instance: str
    slot: str
    digest: Digest
    module_dir: str
    socket_dir: str
    runtime: Runtime
    providers: tuple[str, ...]
    memory_mb: int
    group: int
    cpu_cores: float | None = None
    pids: int = 128
    devices: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    settings: dict[str, float | str | bool] = {}
    secrets_dir: str = ""
    task: Task | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the host that it gets."""
        given = (self.socket_dir,) if self.task is None else (self.task.inputs, self.task.outputs)
        return (self.module_dir, *given)

    @property
    def socket(self) -> str:
        """The path, on the host, of the socket that the instance listens on.

        Raises:
            BadSettings: longer than the kernel can bind.
        """
        return str(check_socket(Path(self.socket_dir) / SOCKET))

    @property
    def server_environment(self) -> dict[str, str]:
        """What the scoring server is told. The launch's own entries can add, and change none of the others."""
        told = {
            **self.environment,
            # onnxruntime sends telemetry by default, and reads this before its first import.
            "ORT_DISABLE_TELEMETRY": "1",
            "EDGEFLEET_PROVIDERS": msgspec.json.encode(self.providers).decode(),
        }
        if self.secrets_dir:
            told[SECRETS_VARIABLE] = SECRETS_MOUNT
        if self.settings:
            told["EDGEFLEET_SETTINGS"] = msgspec.json.encode(self.settings).decode()
        return told


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as the engine sees it now.

    ``exit_code`` is None while it runs, and where nobody saw it end. ``oom`` says that the kernel killed it, or one of
    its processes, for memory. ``started_at`` is in Unix seconds, 0.0 before the first start; ``image`` is what it was
    started from (image id, or interpreter); ``detail`` is the engine's own word on a failure.
    """

    instance: str
    slot: str
    digest: Digest
    state: Literal["created", "running", "exited"]
    exit_code: int | None = None
    oom: bool = False
    started_at: float = 0.0
    image: str = ""
    detail: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance uses: memory in MiB (no page cache), CPU seconds since its start, processes and threads."""

    memory_mb: float
    cpu_s: float
    tasks: int = 0


class ContainerEngine(Protocol):
    """Starts, stops and shows instances. Every call ends within bounded time.

    Raises, from any call:
        NoEngine: nothing answers, or it refuses us; the remedy says what to do.
        EngineBusy: it did not answer in time; try again.
    """

    name: str

    async def facts(self) -> Engine:
        """What this engine is."""
        ...

    async def has_image(self, image: Image, blobs: Path) -> bool:
        """Whether the engine holds exactly this signed image; a tag or a name never counts.

        ``blobs`` is the folder with the image's config blob, which lists the signed layers' contents: the agent keeps
        that blob (a few KB) as long as the image. Without it the answer is no.
        """
        ...

    async def image_store(self) -> Path | None:
        """Where the engine keeps images; None where it keeps none, or where that cannot be seen from here."""
        ...

    async def load_image(self, image: Image, blobs: Path) -> None:
        """Load the image from its blobs in the folder ``blobs``, under this device's own name; check what became of it.

        Raises:
            Invalid: a blob is missing or not what it is named.
            Untrusted: the engine refused the layers, or holds something else than was signed; it was removed again.
            Invalid: unpacked, it is larger than was signed.
            NoSpace: unpacked, it would not fit on the engine's disk.
        """
        ...

    async def start(self, launch: Launch) -> Instance:
        """Start an instance. One that runs under this name already is returned, a leftover one is replaced.

        Raises:
            Untrusted: the engine holds no image with the signed digests.
            NotReady: it could not be started; nothing is left of it.
        """
        ...

    async def stop(self, instance: str, *, grace_s: float) -> None:
        """Ask it to end, after ``grace_s`` make it, and remove every trace but its image. Idempotent."""
        ...

    async def hang_up(self, instance: str) -> None:
        """Send SIGHUP to its main process, which takes that for news of its files; nothing where it does not run."""
        ...

    async def list(self) -> list[Instance]:
        """Every instance of this installation, ended ones included."""
        ...

    async def logs(self, instance: str, *, tail_bytes: int) -> str:
        """The end of what it wrote to stdout and stderr; empty where there is no such instance."""
        ...

    async def usage(self, instance: str) -> Usage | None:
        """What it uses now; None where it does not run."""
        ...

    async def keep_image(self, image: Image) -> None:
        """Put this device's own name on an image that the engine holds, so that nobody's tidying takes it away.

        One that nobody has named is left so, and never let go: it is somebody's who looks after it. Idempotent.
        """
        ...

    async def let_go_images(self, keep: Collection[Image]) -> None:
        """Take this device's own name off all images but these; the engine deletes what then has none.

        An image that a container uses, or that somebody else has named, stays. Idempotent.
        """
        ...
