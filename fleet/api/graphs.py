"""Graphs of module versions and uploads: what goes in and out, and of small ones every node.

What a graph takes and gives, and how often it has which operator, is told to whoever may see the module; its nodes are
part of the file itself, and so are for who may read blobs.
"""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query

from fleet.api.modules import module_ref
from fleet.api.paths import DigestPath, TeamPath
from fleet.auth import need
from fleet.graphs import class_names
from fleet.graphs.graph import Graph
from fleet.refusals import Missing
from fleet.services import Services, Use
from modules.manifest import Manifest, ModelSet, OnnxGraph
from modules.names import ModuleRef

router = APIRouter(prefix="/api/v1")
_ENDINGS = (".onnx", ".ort")
Path = Annotated[str, Query(max_length=1000)]


@router.get("/modules/{team}/{name}/{version}/graph", dependencies=[Depends(need("module:read"))])
def show_graph(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use, path: Path = "") -> dict[str, Any]:
    """One graph of a module, its main one unless ``path`` names another; ``paths`` has all of them."""
    paths, chosen, graph = _of_module(use, ref, path)
    return {"paths": paths, "path": chosen, "graph": None if graph is None else face(graph)}


@router.get("/modules/{team}/{name}/{version}/graph/nodes", dependencies=[Depends(need("blob:read"))])
def show_graph_nodes(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use, path: Path = "") -> dict[str, Any]:
    """The nodes of one graph; none where there are more than are drawn."""
    _, chosen, graph = _of_module(use, ref, path)
    return {"path": chosen, "nodes": None if graph is None else nodes(graph)}


@router.get("/modules/{team}/{name}/{version}/classes", dependencies=[Depends(need("module:read"))])
def show_class_names(ref: Annotated[ModuleRef, Depends(module_ref)], use: Use) -> dict[str, Any]:
    """The names of what a module tells apart, in order; ``source`` is the file that has them, empty where none does."""
    with use.database.read() as connection:
        manifest = use.registry.manifest(use.registry.digest(connection, ref))
    if (file := class_names.file_of(manifest.files)) is not None:
        found = class_names.read(use.blobs.path(file.sha256), file.path)
        if found:
            return {"source": file.path, "names": found}
    _, chosen, graph = _of_module(use, ref, "")
    names = [] if graph is None else list(graph.classes)
    return {"source": chosen if names else "", "names": names}


@router.get("/uploads/{team}/{name}/nodes", dependencies=[Depends(need("blob:read"))])
def show_upload_nodes(team: TeamPath, name: DigestPath, use: Use) -> dict[str, Any]:
    """The nodes of the graph that was uploaded; none where there are more than are drawn."""
    shown = use.uploads.view(team, name)
    return {"path": shown["name"], "nodes": nodes(use.graphs.of(name, use.uploads.path(name)))}


def face(graph: Graph) -> dict[str, Any]:
    """A graph without its nodes; ``drawn`` says whether it is small enough for them."""
    shown: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(graph, nodes=None, classes=()))
    del shown["nodes"], shown["classes"]
    return shown | {"drawn": graph.nodes is not None}


def nodes(graph: Graph) -> Any:
    return msgspec.to_builtins(graph.nodes)


def _of_module(use: Services, ref: ModuleRef, path: str) -> tuple[list[str], str, Graph | None]:
    with use.database.read() as connection:
        manifest = use.registry.manifest(use.registry.digest(connection, ref))
    paths = graph_paths(manifest)
    if path and path not in paths:
        raise Missing("the module has no such graph", element=path[:200])
    if not paths:
        return [], "", None
    chosen = manifest.file(path or paths[0])
    return paths, chosen.path, use.graphs.of(chosen.sha256, use.blobs.path(chosen.sha256))


def graph_paths(manifest: Manifest) -> list[str]:
    """The graphs of a module: what it serves first, and of that the main one."""
    serve, served = manifest.serve, list[str]()
    if isinstance(serve, OnnxGraph):
        served = [serve.file]
    elif isinstance(serve, ModelSet):
        names = [serve.main, *(one for one in serve.models if one != serve.main)]
        served = [one.file for one in map(serve.models.get, names) if isinstance(one, OnnxGraph)]
    others = [one.path for one in manifest.files if one.path.endswith(_ENDINGS)]
    return list(dict.fromkeys([*served, *others]))
