"""Many releases quickly: packed and uploaded by the client's own code in this process, and signed all at once."""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import onnx
from tuf.api.metadata import TargetFile, Targets

from fleet.client.api import Fleet
from fleet.client.publishing import pack
from fleet.client.publishing.publish import publish
from fleet.client.signing.offline_keys import team_signers
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import FILES, Workspace
from modules.manifest import Manifest, OnnxGraph, Proof, Runtime
from modules.names import ModuleRef, Slug
from modules.trust import metadata, roles


class Releases:
    """One team's releases; ``home`` is the folder of the client's configuration, ``keys`` that of the offline keys."""

    def __init__(self, fleet: Fleet, *, home: Path, keys: Path, team: str) -> None:
        self._fleet = fleet
        self._workspace = Workspace(home / "workspace")
        self._trusted = Trusted(fleet, home)
        self._signers = team_signers([str(keys)], Slug(team))
        self._team = Slug(team)

    def folder(self, ref: str) -> Path:
        """A release as it was packed: manifest and files, as a container's module folder has them."""
        return self._workspace.module(ModuleRef.parse(ref))

    def size(self, ref: str) -> int:
        """Bytes of a module: its manifest and files, without the image."""
        return sum(path.stat().st_size for path in self.folder(ref).rglob("*") if path.is_file())

    def next_version(self, ref: str, number: int) -> str:
        """Draft the module anew: the same graph with other bytes, hence the same reference answers."""
        manifest, _ = self._workspace.manifest(ModuleRef.parse(ref))
        with self._workspace.staging() as folder:
            shutil.copytree(self.folder(ref), folder, dirs_exist_ok=True)
            # A container's user reads it where the benchmark starts one by itself.
            folder.chmod(0o755)
            assert isinstance(manifest.serve, OnnxGraph)
            place = folder / FILES / manifest.serve.file
            graph = onnx.load(place)
            graph.doc_string = f"release {number}"
            onnx.save(graph, place)
            return self._draft(msgspec.structs.replace(manifest, files=pack.measure_files(folder, _quietly)), folder)

    def small(self, name: str, model: Path) -> str:
        """Draft one model under another name, for no image: a line more in the team's metadata."""
        file = f"{pack.MODEL}/{model.name}"
        with self._workspace.staging() as folder:
            pack.copy_in({file: model}, folder, _quietly)
            manifest = Manifest(
                team=self._team,
                name=Slug(name),
                version="0",
                serve=OnnxGraph(file=file),
                files=pack.measure_files(folder, _quietly),
                runtimes=(Runtime(),),
                proof=Proof(prove="ready-only"),
            )
            return self._draft(manifest, folder)

    def sign(self, refs: Iterable[str]) -> None:
        """Publish all of these drafts with one new version of the team's metadata."""
        wanted = [self._workspace.manifest(ModuleRef.parse(ref)) for ref in refs]
        role = roles.team_role(self._team)
        team = metadata.read(self._trusted.team_metadata(wanted[0][0].ref), Targets, role)
        for manifest, data in wanted:
            path = manifest.ref.target
            team.signed.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        team.signed.version += 1
        self._fleet.put_team(self._team, metadata.seal(team, role, self._signers, datetime.now(UTC)))

    def _draft(self, manifest: Manifest, folder: Path) -> str:
        made = publish(manifest, folder, self._fleet, self._workspace, _quietly)
        return str(made.manifest.ref)


def _quietly(_what: str, _done: int, _total: int) -> None:
    """No progress bar."""
