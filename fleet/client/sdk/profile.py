"""``ModelProfile``: how much processor and memory a service of these models needs, measured in its own container here.

It is measured beside the script that asked for it; ``wait_for_profiling`` shows how, and raises what went wrong.
"""

import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.local.profile import CORES, Profile, Run, profile_module
from fleet.client.models.sample_requests import Request
from fleet.client.publishing.register import Model as Wanted
from fleet.client.publishing.register import prepare
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException, WebserviceException
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.service_folder import LIBRARIES, trusts_pickles
from fleet.client.sdk.service_module import as_registered, image_of, laid
from fleet.client.workspace import FILES
from modules import samples as samples_file
from modules.cores import granted
from modules.errors import EdgefleetError
from modules.names import slug

RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"
_MOST_INPUTS: Final = 1000
_GB: Final = 1024


class ModelProfile:
    """What ``Model.profile`` returns, at once."""

    def __init__(
        self,
        workspace: Connection,
        name: str,
        models: Sequence[ModelVersion],
        config: Resolved | None,
        requests: tuple[Request, ...],
        *,
        cpu: float | None = None,
        memory_in_gb: float | None = None,
        description: str = "",
    ) -> None:
        self.workspace, self.name, self.description = workspace, name, description
        self._models, self._config, self._requests = tuple(models), config, requests
        self._cpu, self._memory = cpu, memory_in_gb
        self._runs: list[Run] = []
        self._found: Profile | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._measure, name="profile")
        self._thread.start()

    def _measure(self) -> None:
        try:
            self._found = self._measured()
        except BaseException as error:  # noqa: BLE001  whoever waits gets it
            self._error = error

    def _measured(self) -> Profile:
        packed, config = self.workspace.packed, self._config
        alone = config is None
        is_graph = alone and as_registered(self.workspace, self._models) is not None
        with packed.staging() as folder, tempfile.TemporaryDirectory(prefix="edgefleet-profile-") as scratch:

            def step(*_: object) -> None:
                """Nobody watches each step."""

            image = packed.image(image_of(self.workspace, config, step))
            wanted = Wanted(
                path=laid(self.workspace, self._models, Path(scratch), step, alone=alone),
                team=slug("profile", what="team"),
                name=slug("model", what="model name"),
                image=image.name,
                entry_script=config.entry_script if config else None,
                source_dir=config.source_dir if config else None,
                framework=LIBRARIES[self._models[0].model_framework or ""] if alone and not is_graph else None,
                trusted_pickle=trusts_pickles(),
                prove="ready-only" if self._requests else "samples",
            )
            prepare(wanted, image, packed.blobs, folder, step)
            requests = self._requests or _own(folder)
            return profile_module(
                folder, image, packed.blobs, requests, cores=_cores(self._cpu), step=step, told=self._runs.append
            )

    @property
    def profile_state(self) -> str:
        """``Running``, ``Succeeded`` or ``Failed``."""
        if self._thread.is_alive():
            return RUNNING
        return FAILED if self._error is not None else SUCCEEDED

    def wait_for_profiling(self, show_output: bool = False) -> None:
        """Return once all is measured; with ``show_output`` each measurement is printed.

        Raises:
            WebserviceException: it cannot be measured, or needs more than ``memory_in_gb``; the message says why.
        """
        shown = 0
        while self._thread.is_alive() or shown < len(self._runs):
            self._thread.join(0.2)
            for run in self._runs[shown:]:
                shown += 1
                if show_output:
                    print(_line(run))
        if isinstance(self._error, EdgefleetError):
            failed = WebserviceException(self._error.message, element=self._error.element, remedy=self._error.remedy)
            failed.code = self._error.code
            raise failed from self._error
        if self._error is not None:
            raise self._error
        assert self._found is not None  # noqa: S101  it was measured, or its error was raised
        if self._memory is not None and self._found.memory_gb > self._memory:
            raise WebserviceException(
                f"it needs {self._found.memory_gb:g} GB of memory, more than {self._memory:g}",
                element="memory_in_gb",
                remedy="allow more, or use a smaller model",
            )

    wait_for_completion = wait_for_profiling

    def get_results(self) -> dict[str, float]:
        """``cpu`` and ``memoryInGB`` that are recommended.

        Raises:
            WebserviceException: as :meth:`wait_for_profiling`.
        """
        found = self._ready()
        return {"cpu": found.cpu, "memoryInGB": found.memory_gb}

    def get_details(self) -> dict[str, Any]:
        """What is recommended, how it answered with that, and each measurement (``runs``).

        Raises:
            WebserviceException: as :meth:`wait_for_profiling`.
        """
        found = self._ready()
        last = found.runs[-1]
        return {
            "name": self.name,
            "description": self.description,
            "state": self.profile_state,
            "recommendedCpu": found.cpu,
            "recommendedMemoryInGB": found.memory_gb,
            "maxUtilizedMemoryInGB": max(run.peak_mb or 0.0 for run in found.runs) / _GB,
            "averageLatencyInMs": last.mean_ms,
            "latencyPercentile95InMs": last.p95_ms,
            "measuredQueriesPerSecond": last.per_second,
            "runs": msgspec.to_builtins(found.runs),
        }

    def serialize(self) -> dict[str, Any]:
        """What is known of it so far, as JSON takes it."""
        about = {"name": self.name, "state": self.profile_state, "models": [one.id for one in self._models]}
        return about | (self.get_details() if self.profile_state == SUCCEEDED else {})

    def __repr__(self) -> str:
        return f"ModelProfile(workspace={self.workspace.name}, name={self.name}, state={self.profile_state})"

    def _ready(self) -> Profile:
        self.wait_for_profiling()
        assert self._found is not None  # noqa: S101  it was measured, or its error was raised
        return self._found


def requests_of(given: Any) -> tuple[Request, ...]:
    """The requests of ``input_data``: text, bytes or JSON's values; or a list of them, as a data set of one column has.

    Raises:
        UserErrorException: it is something else, or too much.
    """
    if given is None:
        return ()
    rows = list(given) if isinstance(given, list | tuple) else [given]
    if not 0 < len(rows) <= _MOST_INPUTS:
        raise UserErrorException(f"1 to {_MOST_INPUTS} requests", element="input_data", remedy="give fewer")
    try:
        bodies = [
            one if isinstance(one, bytes) else one.encode() if isinstance(one, str) else json.dumps(one).encode()
            for one in rows
        ]
    except (TypeError, ValueError) as error:
        raise UserErrorException(
            f"{type(given).__name__} is no request: {error}",
            element="input_data",
            remedy="give the text of a request, or a list of such texts; a fleet keeps no datasets",
        ) from error
    return tuple(Request(name=f"input-{number}", body=body) for number, body in enumerate(bodies, 1))


def _own(folder: Path) -> tuple[Request, ...]:
    """The example of the script, or random numbers for a graph."""
    found = samples_file.decode((folder / FILES / "samples.json").read_bytes())
    return tuple(
        Request(name=one.name, path=one.path, method=one.method, content_type=one.content_type, body=one.body)
        for one in found.samples
    )


def _cores(most: float | None) -> tuple[float, ...]:
    """The numbers of cores to try, if somebody has said how many at most."""
    if most is None:
        return ()
    most = min(most, granted())
    return tuple(sorted({one for one in CORES if one < most} | {most}))


def _line(run: Run) -> str:
    limit = f"{run.memory_mb} MiB" if run.memory_mb else "no memory limit"
    return f"{run.cpu:g} cores, {limit}: " + (run.problem or f"{run.mean_ms:.2f} ms, {run.per_second:.0f} a second")
