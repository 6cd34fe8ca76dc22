"""An environment's image into the workspace."""

from collections.abc import Callable

from fleet.client.environments.environment import Environment
from fleet.client.environments.environment_image import Built
from fleet.client.images.docker_engine import docker_engine
from fleet.client.images.store import take
from fleet.client.screen import Step
from fleet.client.workspace import Workspace
from modules.manifest import Image


def build_environment(
    environment: Environment,
    workspace: Workspace,
    step: Step,
    *,
    line: Callable[[str], None],
    upgrade: bool = False,
) -> tuple[Image, Built]:
    """Build an environment's image and bring it in under the environment's name.

    Raises:
        Invalid, NeedsOperator: as :meth:`fleet.client.environments.environment.Environment.build_image`.
        NoEngine: no engine answers.
    """
    with docker_engine() as engine:
        built = environment.build_image(client=engine, upgrade=upgrade, progress=line)
        return take(engine, built.image_id, workspace, step, environment.name, environment=True), built
