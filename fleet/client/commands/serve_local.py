"""``edgefleet serve-local``: the scoring server of devices on this machine, to try a model or debug a script."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import arguments, config
from fleet.client.environments.environment import Environment
from fleet.client.local.server import LocalServer, target_of
from fleet.client.screen import Json, Screen
from fleet.client.workspace import Workspace

app = typer.Typer()


@app.command()
def serve_local(
    path: Annotated[str, typer.Argument(help="ONNX file, entry script, module's folder, or team/name:version.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: any that is free.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    model_dir: Annotated[
        Path | None, typer.Option(help="AZUREML_MODEL_DIR of a script (default: the script's folder).")
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="Environment kept on this machine that the script runs in.")
    ] = None,
    interpreter: Annotated[str, typer.Option(help="Python with edgefleet[scoring] (default: this one).")] = "",
    reload: Annotated[bool, typer.Option("--reload/--no-reload", help="Start again when a file changes.")] = True,
    as_json: Json = False,
) -> None:
    """Serve a model, a script or a module on this machine, and again when its files change."""
    screen = Screen(as_json=as_json)
    variables = {}
    if environment:
        python = Environment.get(environment).build_local(use_docker=False, progress=screen.remark)
        variables["EDGEFLEET_SCRIPT_PYTHON"] = python
    server = LocalServer(
        target_of(_place(path), model_dir=model_dir), python=interpreter, environment=variables, say=screen.remark
    )

    def ready(address: str) -> None:
        document = {"address": address, "score": f"{address}/score", "swagger": f"{address}/swagger.json"}
        screen.show(document, lambda it: it.say(f"serving at {address}/score (Ctrl+C ends it)"))

    asyncio.run(server.run(host, port, reload=reload, ready=ready))


def _place(text: str) -> Path:
    """A path, or where a module of the workspace lies."""
    path = Path(text)
    if path.exists() or ":" not in text:
        return path
    return Workspace(config.home() / "workspace").module(arguments.module_ref(text))
