"""``edgefleet images``: the container images that modules run in, in this user's workspace."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleet.client import config
from fleet.client.images.docker_engine import docker_engine
from fleet.client.images.image_build import AGENT, GATEWAY, SERVER, Recipe
from fleet.client.images.image_build import build_image as build_an_image
from fleet.client.images.store import add_archive, add_from_engine, build
from fleet.client.images.store import save as write
from fleet.client.screen import Json, Screen, size
from fleet.client.workspace import SCORING_IMAGE, Workspace
from fleet.images_push import Registry, push
from modules import __version__
from modules.errors import BadSettings
from modules.images import GATEWAY_IMAGE
from modules.manifest import Image

app = typer.Typer(
    no_args_is_help=True, help="Build, add, list, save, push and remove the container images that modules run in."
)


_SERVER: Final = f"edgefleet-server:{__version__}"
_AGENT: Final = f"edgefleet-agent:{__version__}"
_OTHERS: Final[tuple[tuple[Recipe, str], ...]] = ((GATEWAY, GATEWAY_IMAGE), (SERVER, _SERVER), (AGENT, _AGENT))


@app.command("build")
def build_image(
    name: Annotated[
        str | None, typer.Option(help=f"The image's name in the workspace ({SCORING_IMAGE}), or in Docker.")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option("--with", help="A package that entry scripts import, as pip writes it.")
    ] = None,
    *,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Build what stands before endpoints on a container host; it stays there.")
    ] = False,
    server: Annotated[
        bool, typer.Option("--server", help=f"Build the fleet server's image ({_SERVER}); it stays in Docker.")
    ] = False,
    agent: Annotated[
        bool, typer.Option("--agent", help=f"Build the agent's image ({_AGENT}); it stays in Docker.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="The image that one of these three is built upon (python:3.11-slim).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the scoring image with Docker and bring it in, or an image of one of our other programs."""
    screen = Screen(as_json=as_json)
    chosen = [one for one, wanted in zip(_OTHERS, (gateway, server, agent), strict=True) if wanted]
    if len(chosen) > 1 or (base and not chosen):
        raise BadSettings(
            "these options do not go together",
            element="images build",
            remedy="give one of --gateway, --server and --agent; --base is for these alone",
        )
    if chosen:
        ((recipe, usual),) = chosen
        made = name or usual
        with docker_engine() as engine:
            image_id = build_an_image(
                recipe, client=engine, name=made, base=base, extra_requirements=extra or (), progress=screen.remark
            )
        screen.show({"name": made, "id": image_id}, lambda it: it.fields([("name", made), ("id", image_id)]))
        return
    with screen.progress() as step:
        image = build(name or SCORING_IMAGE, tuple(extra or ()), _workspace(), step, line=screen.remark)
    _show(screen, image)


@app.command()
def add(
    source: Annotated[str, typer.Argument(help="A tar written by docker save or podman save, or an image in Docker.")],
    name: Annotated[str | None, typer.Option(help="The image's name in the workspace.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Bring in an image from a file or from Docker."""
    screen = Screen(as_json=as_json)
    with screen.progress() as step:
        file = Path(source)
        if file.is_file():
            image = add_archive(file, _workspace(), step, name=name or "")
        else:
            image = add_from_engine(source, _workspace(), step, name=name or source)
    _show(screen, image)


@app.command()
def save(
    name: Annotated[str, typer.Argument(help="An image of the workspace.")],
    file: Annotated[Path, typer.Argument(help="The tar to write.")],
    *,
    as_json: Json = False,
) -> None:
    """Write an image to a file, for devices that cannot be sent it (edgefleet-agent images import FILE), and nodes."""
    screen = Screen(as_json=as_json)
    image = _workspace().image(name)
    with screen.progress() as step:
        write(image, file, _workspace(), step)
    _show(screen, image)


@app.command("push")
def push_image(
    name: Annotated[str, typer.Argument(help="An image of the workspace.")],
    address: Annotated[str, typer.Argument(help="HOST[:PORT]/REPOSITORY of a registry that a cluster pulls from.")],
    user: Annotated[str, typer.Option(help="User name there.")] = "",
    password: Annotated[
        str,
        typer.Option(
            envvar="EDGEFLEET_REGISTRY_PASSWORD",
            show_envvar=False,
            help="Password there; better given in EDGEFLEET_REGISTRY_PASSWORD. It is kept nowhere.",
        ),
    ] = "",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the authority behind it.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Bring an image into a registry, and print by which digest a cluster pulls it; what is there is not sent again."""
    screen, workspace = Screen(as_json=as_json), _workspace()
    image = workspace.image(name)
    registry = Registry(address=address, user=user, password=password, ca=_pem(ca))
    with screen.progress() as step:
        found = push(
            registry,
            image,
            workspace.blobs,
            progress=lambda digest, done, total: step(f"sending {digest}", done, total),
        )
    screen.show({"name": name, "reference": found}, lambda it: it.say(found))


@app.command()
def remove(name: Annotated[str, typer.Argument(help="An image of the workspace.")], *, as_json: Json = False) -> None:
    """Take an image out of the workspace, unless a module that is packed there runs in it."""
    image = _workspace().forget_image(name)
    Screen(as_json=as_json).show(_document(image), lambda it: it.say(f"{name} is removed from the workspace"))


@app.command("list")
def list_images(*, as_json: Json = False) -> None:
    """List the images of the workspace."""
    images = _workspace().images()
    Screen(as_json=as_json).show(
        [_document(image) for image in images],
        lambda it: it.table(
            ("NAME", "CONFIG", "MANIFEST", "LAYERS", "SIZE"),
            (
                (
                    image.name,
                    it.digest(image.config.sha256),
                    it.digest(image.manifest.sha256),
                    len(image.layers),
                    size(_size(image)),
                )
                for image in images
            ),
            empty="No images yet: edgefleet images build, or edgefleet images add IMAGE",
        ),
    )


def _pem(file: Path | None) -> str:
    try:
        return "" if file is None else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"it cannot be read: {error}", element=str(file), remedy="name a PEM file") from error


def _workspace() -> Workspace:
    return Workspace(config.home() / "workspace")


def _size(image: Image) -> int:
    return sum(blob.length for blob in (image.manifest, image.config, *image.layers))


def _document(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "config": image.config.sha256,
        "manifest": image.manifest.sha256,
        "layers": [layer.sha256 for layer in image.layers],
        "size": _size(image),
    }


def _show(screen: Screen, image: Image) -> None:
    screen.show(
        _document(image),
        lambda it: it.fields(
            [
                ("name", image.name),
                ("config", image.config.sha256),
                ("manifest", image.manifest.sha256),
                ("layers", len(image.layers)),
                ("size", size(_size(image))),
            ]
        ),
    )
