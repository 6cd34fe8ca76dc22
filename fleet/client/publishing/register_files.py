"""A model's files alone, with their names and a version: whoever deploys them brings the script that opens them.

What they become is a module like any other, signed like any other, whose script only says that it is not the one: so
no device ever takes it for a model that works.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from fleet.client.api import Fleet
from fleet.client.publishing import pack
from fleet.client.publishing.publish import Registered, publish
from fleet.client.publishing.register import Model
from fleet.client.screen import Step
from fleet.client.workspace import FILES, Workspace
from modules.errors import Invalid
from modules.manifest import EntryScript, Manifest, Proof, Runtime

STAND_IN: Final = f"{pack.SOURCE}/only_files.py"
_SCRIPT: Final = '''"""Stands where a script must: this model was registered as files alone."""


def init():
    raise RuntimeError("this model was registered as files alone: deploy it with an entry script")


def run(data):
    return None
'''


def register_files(
    model: Model, fleet: Fleet, workspace: Workspace, step: Step, *, only: Collection[str] = ()
) -> Registered:
    """Send the file or folder at ``model.path`` as a draft; of a folder ``only`` these paths below it, where given.

    A folder keeps its name, as it does in Azure ML.

    Raises:
        Invalid: there is no such file, or it cannot be packed.
        EdgefleetError: as :class:`Fleet`.
    """
    sources = _sources(model.path, only)
    with workspace.staging() as folder:
        pack.copy_in(sources, folder, step)
        script = folder / FILES / STAND_IN
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(_SCRIPT)
        manifest = Manifest(
            team=model.team, name=model.name, version="0", serve=EntryScript(script=STAND_IN),
            files=pack.measure_files(folder, step), runtimes=(Runtime(),), opaque_files=tuple(sorted(sources)),
            proof=Proof(prove="ready-only"), description=model.description, tags=model.tags,
            properties=model.properties,
        )  # fmt: skip
        return publish(manifest, folder, fleet, workspace, step)


def is_only_files(manifest: Manifest) -> bool:
    """Whether a module was made here."""
    return isinstance(manifest.serve, EntryScript) and manifest.serve.script == STAND_IN


def _sources(path: Path, only: Collection[str]) -> pack.Sources:
    if not path.is_dir():
        if only:
            raise Invalid("parts of a folder are named, and this is none", element=str(path), remedy="name the folder")
        return pack.model_sources(path)
    above = f"{pack.MODEL}/{path.resolve().name}"
    sources = pack.folder_sources(path, above)
    if lost := [one for one in only if not any(_is_below(name, f"{above}/{one.rstrip('/')}") for name in sources)]:
        raise Invalid("there is no such file in the folder", element=f"{path}: {lost[0]}", remedy="correct the path")
    chosen = {
        name: file
        for name, file in sources.items()
        if not only or any(_is_below(name, f"{above}/{one.rstrip('/')}") for one in only)
    }
    if not chosen:
        raise Invalid("the folder has no files", element=str(path), remedy="name the folder that holds the model")
    return chosen


def _is_below(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")
