"""The container engine on this machine, as the environment names it (``DOCKER_HOST``); its errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modules.errors import NoEngine


@contextmanager
def docker_engine() -> Iterator[Any]:
    """Docker's own client, for the block.

    Raises:
        NoEngine: no engine answers, or it refuses something within the block.
    """
    import docker  # noqa: PLC0415  a tenth of a second, for the few commands that need it
    from docker.errors import DockerException  # noqa: PLC0415  as above

    try:
        engine = docker.from_env()
        try:
            yield engine
        finally:
            engine.close()
    except DockerException as error:
        raise NoEngine(
            f"Docker refuses or does not answer: {error}",
            element="docker",
            remedy="start it and make sure that this user may use it; models can be tried with --engine process",
        ) from error
