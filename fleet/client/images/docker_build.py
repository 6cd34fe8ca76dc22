"""One build in the container engine, from a folder; the result carries a label with what it was made from."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fleet.client.images.base_image import Progress
from modules.errors import NeedsOperator

LABEL: Final = "edgefleet.built-from"
_REPOSITORY: Final = re.compile(r"[^a-z0-9._/-]+")


def made_before(client: Any, content: str) -> Any:
    """The image that was built from the same, if the engine has one.

    What is built upon an image inherits its labels, so the label must be the last thing that was done to it.
    """
    from docker.errors import NotFound  # noqa: PLC0415  a tenth of a second, for these commands alone

    for one in client.api.images(filters={"label": f"{LABEL}={content}"}):
        with contextlib.suppress(NotFound):  # somebody may have removed it just now
            image = client.images.get(one["Id"])
            if content in image.history()[0].get("CreatedBy", ""):
                return image
    return None


def tag_of(name: str) -> str:
    """A name as engines take it: letters in lower case, nothing but ``.``, ``_``, ``-`` and ``/`` beside them."""
    repository, colon, tag = name.partition(":")
    return (_REPOSITORY.sub("-", repository.lower()).strip("-./_") or "image") + colon + tag


def build(
    client: Any,
    context: Path,
    name: str,
    content: str,
    progress: Progress,
    *,
    arguments: Mapping[str, str],
    network: str = "none",
) -> str:
    """Build the folder's Dockerfile and return the image's id; ``content`` says what it is made from, for the label.

    Raises:
        NeedsOperator: a step failed.
    """
    progress(f"building {name}")
    image_id, said = "", ""
    steps: Any = client.api.build(
        path=str(context),
        tag=name,
        rm=True,
        forcerm=True,
        pull=False,
        decode=True,
        network_mode=network,
        buildargs=dict(arguments),
        labels={LABEL: content},
    )
    for step in steps:
        if "error" in step:
            raise NeedsOperator(
                f"the build failed: {step['error'].strip()}{': ' if said else ''}{said}",
                element=name,
                remedy="read the lines before this one",
            )
        if line := step.get("stream", "").strip():
            progress(line)
            said = line
        image_id = step.get("aux", {}).get("ID", image_id)
    # Podman says the id only in words; the tag is fresh, so it says whose it is.
    return image_id or str(client.images.get(name).id)
