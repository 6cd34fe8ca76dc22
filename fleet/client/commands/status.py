"""``edgefleet status``: does the server answer, and what does this user's workspace hold."""

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen
from fleet.client.workspace import Workspace

app = typer.Typer()


@app.command()
def status(*, as_json: Json = False) -> None:
    """Say whether the fleet server answers, and what this user's workspace holds."""
    screen = Screen(as_json=as_json)
    chosen = config.load()
    workspace = Workspace(config.home() / "workspace")
    with Fleet(chosen) as fleet:
        health = fleet.health()
        modules = fleet.modules()
        devices = fleet.devices()
    document = {
        "url": chosen.url,
        "server": health,
        "modules": len(modules),
        "drafts": sum(module.state == "draft" for module in modules),
        "devices": len(devices),
        "online": sum(device.online for device in devices),
        "workspace": str(workspace.root),
        "images": [image.name for image in workspace.images()],
        "packed": [str(ref) for ref in workspace.modules()],
    }
    screen.show(
        document,
        lambda it: it.fields(
            [
                ("server", f"{chosen.url} (edgefleet {health.version}): {health.status}, broker {health.broker}"),
                ("ends soon", "\n".join(health.warnings) or "nothing that somebody has to look at"),
                ("modules", f"{document['modules']} ({document['drafts']} drafts)"),
                ("devices", f"{document['devices']} ({document['online']} online)"),
                ("workspace", workspace.root),
                ("images", ", ".join(image.name for image in workspace.images()) or "none"),
                ("packed here", ", ".join(str(ref) for ref in workspace.modules()) or "none"),
            ]
        ),
    )
    for note in health.notes:
        screen.remark(note)
