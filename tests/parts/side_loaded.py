"""``python -m tests.parts.side_loaded FOLDER``: the images that nodes of a cluster without a registry have to have.

On each node: ``ctr -n k8s.io images import FILE``, or what its runtime has for that. They are those that the tests use:
made once of the sources as they are, and kept by this machine's Docker engine.
"""

import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from fleet.client.images.store import add_from_engine, save
from fleet.client.workspace import Workspace
from modules.images import GATEWAY_IMAGE
from tests.parts import docker as docker_parts

GATEWAY_NAME: Final = GATEWAY_IMAGE


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with docker_parts.engine(), closing(docker_parts.client()) as engine:
        workspace = Workspace(folder / "workspace")
        scoring = docker_parts.scoring_image(engine)
        image = add_from_engine(scoring, workspace, lambda *_: None, name="scoring:cpu")
        save(image, folder / "scoring.tar", workspace, lambda *_: None)
        engine.images.get(docker_parts.gateway_image(engine)).tag(GATEWAY_NAME)
        with (folder / "gateway.tar").open("wb") as out:
            out.writelines(engine.images.get(GATEWAY_NAME).save(named=GATEWAY_NAME))
    sys.stdout.write(f"{folder / 'scoring.tar'}\n{folder / 'gateway.tar'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
