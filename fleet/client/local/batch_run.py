"""A batch run in the scoring image on this machine: no network, nothing writable but the folder of the answers."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.local.containers import MODULE_MOUNT, NO_TELEMETRY, hardened
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, EdgefleetError, Invalid, NotReady, OverLimit

#: what a second start goes on from, beside the answers
STATE: Final = ".edgefleet-batch"
_LABEL: Final = "edgefleet.batch.outputs"
_INPUTS: Final = "/inputs"
_OUTPUTS: Final = "/outputs"
_COMMAND: Final = ("python", "-m", "modules.scoring.batch")
_PIDS: Final = 128
_STOP_S: Final = 10
_LOG_LINES: Final = 20
_CANNOT_SERVE, _TOO_MANY_FAILED, _UNUSABLE = 3, 4, 5
_WHY: Final[Mapping[int, type[EdgefleetError]]] = {
    _CANNOT_SERVE: NotReady, _TOO_MANY_FAILED: OverLimit, _UNUSABLE: BadSettings
}  # fmt: skip


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is, in its own words."""

    state: str
    items: int
    answered: int
    set_aside: int
    seconds: float


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of whom. ``options`` are the program's own; ``memory_mb`` and ``cpus`` bound all workers."""

    module: Path
    inputs: Path
    outputs: Path
    options: Mapping[str, str]
    workers: int
    memory_mb: int | None = None
    cpus: float | None = None

    @property
    def arguments(self) -> list[str]:
        """The command line inside the container, without the program."""
        folders = {
            "--module": MODULE_MOUNT,
            "--inputs": _INPUTS,
            "--outputs": _OUTPUTS,
            "--state": f"{_OUTPUTS}/{STATE}",
            "--workers": str(self.workers),
        }
        return [word for pair in {**folders, **self.options}.items() for word in pair]


def done_before(outputs: Path) -> Progress | None:
    """How far an earlier run with these outputs has come; None: there was none."""
    try:
        return msgspec.json.decode((outputs / STATE / "progress.json").read_bytes(), type=Progress)
    except (OSError, *UNREADABLE):
        return None


def run(engine: Any, image: str, wish: Wish, told: Callable[[Progress], None]) -> Progress:
    """Run it to its end, or follow the one with these outputs that is under way; ``told`` hears how far it is.

    Raises:
        Invalid: the inputs are no folder.
        NotReady, OverLimit, BadSettings: it ended early; the message ends with the last lines of its log.
    """
    if not wish.inputs.is_dir():
        raise Invalid("there is no such folder", element=str(wish.inputs), remedy="name the folder with the inputs")
    wish.outputs.mkdir(parents=True, exist_ok=True)
    container = _under_way(engine, wish) or _created(engine, image, wish)
    try:
        container.start()  # one that runs already goes on
        last = None
        for line in container.logs(stream=True, follow=True, stderr=False):
            last = msgspec.json.decode(line, type=Progress)
            told(last)
        code = int(container.wait()["StatusCode"])
        if code or last is None:
            log = container.logs(tail=_LOG_LINES, stdout=False).decode("utf-8", "replace").strip()
            raise _WHY.get(code, NotReady)(
                f"the run ended with exit code {code}\nlast lines of its log:\n{log}",
                element=str(wish.outputs),
                remedy="run it again once that is corrected: it goes on where it was",
            )
    except KeyboardInterrupt:
        container.stop(timeout=_STOP_S)
        container.remove(force=True)
        raise
    container.remove(force=True)
    return last


def _under_way(engine: Any, wish: Wish) -> Any:
    """The container of a command that was ended without ceremony; one that has ended itself is taken away."""
    found = None
    for one in engine.containers.list(all=True, filters={"label": f"{_LABEL}={_mark(wish)}"}):
        if one.status == "running":
            found = one
        else:
            one.remove(force=True)
    return found


def _created(engine: Any, image: str, wish: Wish) -> Any:
    limits = hardened(memory_mb=wish.memory_mb, cpus=wish.cpus)
    return engine.containers.create(
        image,
        [*_COMMAND[1:], *wish.arguments],
        entrypoint=[_COMMAND[0]],
        network_mode="none",
        environment=NO_TELEMETRY,
        labels={_LABEL: _mark(wish)},
        volumes={
            str(wish.module.resolve()): {"bind": MODULE_MOUNT, "mode": "ro"},
            str(wish.inputs.resolve()): {"bind": _INPUTS, "mode": "ro"},
            str(wish.outputs.resolve()): {"bind": _OUTPUTS, "mode": "rw"},
        },
        # The limit is for one server; each worker is one.
        **limits | {"pids_limit": _PIDS * (1 + wish.workers)},
    )


def _mark(wish: Wish) -> str:
    return hashlib.sha256(str(wish.outputs.resolve()).encode()).hexdigest()[:32]
