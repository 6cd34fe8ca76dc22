"""``Run``: what a training script asks of the run that it is; here that is the script itself, on this machine."""

import os
import uuid
from pathlib import Path
from typing import Any, Final

from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.model import Model
from fleet.client.sdk.workspace import Workspace

# Set by whatever starts a training, so that a model says of which one it is.
_RUN: Final = "AZUREML_RUN_ID"
_OUTPUTS: Final = "outputs"


class Experiment:
    """What a run belongs to: the workspace of its folder."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace, self.name = workspace, name


class Run:
    """The present run. Its id is that of AZUREML_RUN_ID, or made up; metrics are printed and kept in memory."""

    def __init__(self, workspace: Workspace | None = None, run_id: str = "") -> None:
        self.id = run_id or os.environ.get(_RUN) or f"OfflineRun_{uuid.uuid4()}"
        self._workspace = workspace
        self._metrics: dict[str, Any] = {}

    @classmethod
    def get_context(cls, allow_offline: bool = True, **_: Any) -> "Run":
        """The run of this script; ``allow_offline`` False asks for one that something else has started.

        Raises:
            UserErrorException: nothing has.
        """
        if not allow_offline and not os.environ.get(_RUN):
            raise UserErrorException(
                "this script was not started as a run", element=_RUN, remedy="set it to the run's id, or allow_offline"
            )
        return cls()

    @property
    def experiment(self) -> Experiment:
        self._workspace = self._workspace or Workspace.from_config()
        return Experiment(self._workspace, Path.cwd().name)

    def log(self, name: str, value: Any, description: str = "") -> None:
        """Keep and print a metric."""
        self._metrics[name] = value
        print(f"{name}: {value}" + (f" ({description})" if description else ""))

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        self.log(name, list(value), description)

    def log_row(self, name: str, description: str = "", **values: Any) -> None:
        self.log(name, values, description)

    def get_metrics(self) -> dict[str, Any]:
        return dict(self._metrics)

    def complete(self) -> None:
        """Nothing is left to do."""

    def register_model(
        self,
        model_name: str | None = None,
        model_path: str | os.PathLike[str] | None = None,
        tags: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        **more: Any,
    ) -> Model:
        """Register what the run made, with the run's id as a tag; arguments as :meth:`Model.register`.

        Without a name the run's id is the name. Without a path it is the file of that name, or below ``outputs``;
        without either, the folder ``outputs``.

        Raises:
            ModelPathNotFoundException, WebserviceException: as :meth:`Model.register`.
        """
        path = Path(model_path or model_name or _OUTPUTS)
        if not path.exists() and (Path(_OUTPUTS) / path).exists():
            path = Path(_OUTPUTS) / path
        workspace = self.experiment.workspace
        name = model_name or self.id[:63].rstrip("-_.")
        return Model.register(workspace, path, name, tags, properties, run_id=self.id, **more)
