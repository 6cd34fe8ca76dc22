"""Secrets of a group or a batch job on a container host: in its memory alone, by a container that keeps them there.

A volume of the kind tmpfs is as long there as some container runs that uses it; so one runs beside those that read
them, which may end and start as they like. After a restart of the host it is empty: then the fleet server brings them
again, and what has started without is made anew.
"""

from collections.abc import Mapping

import docker
import docker.errors

from fleet.targets import secret_files
from fleet.targets.container import specs
from fleet.targets.container.endings import clear
from fleet.targets.container.specs import Kept


def keep(api: docker.APIClient, kept: Kept, secrets: Mapping[str, bytes], *, image: str) -> bool:
    """Bring them there, where no container keeps them; whether there were none before.

    Args:
        api: the engine.
        kept: what is to keep them.
        secrets: by name.
        image: one with Python that is there.
    """
    for container in (kept.name, kept.giving):
        clear(api, container, kept.labels)
    api.create_container_from_config(specs.secret_keeper(kept, image=image), name=kept.giving)
    api.start(kept.giving)
    fresh = not _has(api, kept.giving)
    api.put_archive(kept.giving, secret_files.MOUNT, secret_files.packed(secrets, user=specs.USER))
    # By its last name it is known to have them all.
    api.rename(kept.giving, kept.name)
    return fresh


def _has(api: docker.APIClient, container: str) -> bool:
    try:
        stream, _ = api.get_archive(container, f"{secret_files.MOUNT}/..data")
    except docker.errors.NotFound:
        return False
    stream.close()
    return True
