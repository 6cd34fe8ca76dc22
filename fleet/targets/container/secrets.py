"""A group's secrets on a container host: in its memory alone, by a container that keeps them there.

A volume of the kind tmpfs is as long there as some container runs that uses it; so one runs beside the replicas, which
may end and start as they like. After a restart of the host it is empty: then the fleet server brings them again, and
replicas that have started without are made anew.
"""

from collections.abc import Mapping

import docker
import docker.errors

from fleet.targets import secret_files
from fleet.targets.container import specs
from fleet.targets.container.specs import Names


def keep(api: docker.APIClient, names: Names, group: str, secrets: Mapping[str, bytes], *, image: str) -> bool:
    """Bring them there; whether there were none before.

    Args:
        api: the engine, on which no container of these names is left.
        names: of the endpoint.
        group: whose secrets they are.
        secrets: by name.
        image: one with Python that is there.
    """
    giving = names.giving(group)
    api.create_container_from_config(specs.secret_keeper(names, group, image=image), name=giving)
    api.start(giving)
    fresh = not _has(api, giving)
    api.put_archive(giving, secret_files.MOUNT, secret_files.packed(secrets, user=specs.USER))
    # By its last name it is known to have them all.
    api.rename(giving, names.secrets(group))
    return fresh


def _has(api: docker.APIClient, container: str) -> bool:
    try:
        stream, _ = api.get_archive(container, f"{secret_files.MOUNT}/..data")
    except docker.errors.NotFound:
        return False
    stream.close()
    return True
