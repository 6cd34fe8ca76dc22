"""``edgefleet package``: what ``Model.package`` and the packages of Functions make, from a shell."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client.environments.inference_config import InferenceConfig, Keys, read_inference_config, resolve
from fleet.client.publishing.find import by_id
from fleet.client.screen import Json, Screen
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.functions import BLOB_TRIGGER, HTTP_TRIGGER, SERVICE_BUS_QUEUE_TRIGGER, variables_of
from fleet.client.sdk.model_version import version_of
from fleet.client.sdk.package import ModelPackage
from fleet.client.sdk.package_making import NAME
from fleet.client.sdk.workspace_file import logged_in
from modules.errors import Invalid

app = typer.Typer()
_TRIGGERS = {"http": HTTP_TRIGGER, "folder": BLOB_TRIGGER, "topic": SERVICE_BUS_QUEUE_TRIGGER}


@app.command()
def package(
    *,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="name:version, or team/name:version; may be repeated."),
    ] = None,
    inference_config: Annotated[
        Path | None,
        typer.Option(
            "--inference-config-file", "--ic", help="inferenceconfig.json; without script a model is served as it is."
        ),
    ] = None,
    entry_script: Annotated[str, typer.Option("--entry-script", "--es", help="Script with init() and run().")] = "",
    source_directory: Annotated[
        str, typer.Option("--source-directory", "--sd", help="Folder of the script and what lies beside it.")
    ] = "",
    conda_file: Annotated[str, typer.Option("--conda-file", "--cf", help="Conda's environment file.")] = "",
    image_name: Annotated[str, typer.Option("--image-name", "--in", help="Name of the image.")] = "",
    image_label: Annotated[str, typer.Option("--image-label", "--il", help="Its label (default: by content).")] = "",
    output_path: Annotated[
        Path | None, typer.Option(help="Folder for a Dockerfile and all that it copies; then no image is built.")
    ] = None,
    generate_dockerfile: Annotated[
        bool, typer.Option("--generate-dockerfile", help="Write files, as --output-path, which says where.")
    ] = False,
    trigger: Annotated[str, typer.Option(help="What has it score: http, folder or topic.")] = "http",
    source: Annotated[
        str, typer.Option("--from", help='Inputs: files, as "input/{name}.json", or a topic of a broker.')
    ] = "",
    target: Annotated[str, typer.Option("--to", help='Answers: files, as "output/{name}_out.json", or a topic.')] = "",
    broker: Annotated[str, typer.Option(help="Broker of a topic: mqtts://user@host:8883, without a password.")] = "",
    as_json: Json = False,
) -> None:
    """Put models, script and environment into one image, or into a folder that Docker builds anywhere."""
    screen = Screen(as_json=as_json)
    if generate_dockerfile and output_path is None:
        raise Invalid(
            "nothing says where the files go", element="--generate-dockerfile", remedy="add --output-path DIR"
        )
    if trigger not in _TRIGGERS:
        raise Invalid(f"{trigger!r} is no trigger", element="--trigger", remedy=f"one of {', '.join(_TRIGGERS)}")
    variables = variables_of(_TRIGGERS[trigger], _given(trigger, source, target, broker))
    keys = Keys(entry_script, source_directory or None, conda_file=conda_file or None)
    config = _config(inference_config, keys, image_name or NAME)
    connection = Connection(logged_in())
    with connection.fleet() as fleet:
        known = [version_of(fleet.module(by_id(one, fleet))) for one in model or ()]
    made = ModelPackage.begin(
        connection, known, config, dockerfile=output_path is not None, name=image_name or None,
        label=image_label or None, trigger=variables,
    )  # fmt: skip
    for line in made.lines():
        screen.remark(line)
    made.wait_for_creation()
    if output_path is not None:
        made.save(output_path)
    document = made.serialize() | ({"location": str(output_path)} if output_path is not None else {})
    screen.show(document, lambda it: it.say(_said(str(document["location"]), built=output_path is None)))


def _config(file: Path | None, keys: Keys, name: str) -> InferenceConfig | None:
    if file is not None:
        if keys.entry_script or keys.source_directory or keys.conda_file:
            raise Invalid(
                "the script is named twice", element="--inference-config-file", remedy="leave --es, --sd and --cf out"
            )
        return read_inference_config(file, name=name)
    if keys.entry_script:
        return resolve(keys, where="package", folder=Path(), name=name)
    if keys.source_directory or keys.conda_file:
        raise Invalid("no script is named", element="--entry-script", remedy="add --entry-script score.py")
    return None


def _given(trigger: str, source: str, target: str, broker: str) -> dict[str, str]:
    """The arguments of the trigger, under the SDK's names."""
    names = {
        "http": {},
        "folder": {"--from": "input_path", "--to": "output_path"},
        "topic": {"--from": "input_queue_name", "--to": "output_queue_name", "--broker": "connection_string"},
    }[trigger]
    given = {option: text for option, text in (("--from", source), ("--to", target), ("--broker", broker)) if text}
    for option in given.keys() - names.keys():
        raise Invalid(
            f"the trigger {trigger} has no such option",
            element=option,
            remedy="leave it out, or name its --trigger",
        )
    return {names[option]: text for option, text in given.items()}


def _said(location: str, *, built: bool) -> str:
    if built:
        return f"{location} is built: docker run --rm -p 6789:5001 {location}"
    return f"{location} is written: docker build --tag NAME {location} (its README.txt has the rest)"
