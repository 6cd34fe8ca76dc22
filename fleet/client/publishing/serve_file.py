"""What a module serves as its engineer declares it: several graphs, pipelines, ensembles, images in front of a graph.

The file is the part ``serve`` of a manifest (docs/modules.md), in JSON or YAML, with the graphs' files by their paths
below the registered folder.
"""

from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
import yaml

from fleet.client.models.check_model import OnnxModel, check_onnx
from fleet.client.publishing.pack import Sources, graph_path, weights_sources
from modules.errors import Invalid
from modules.manifest import Ensemble, ModelSet, OnnxGraph, Pipeline

LIMIT: Final = 1 << 20


class Declared(msgspec.Struct, frozen=True):
    """``serve`` with paths in the module, and the files that go there."""

    serve: OnnxGraph | ModelSet
    sources: Sources


def read_serve(file: Path, model: Path) -> Declared:
    """Read the declaration and check every graph that it names; ``model`` is their folder, or one file in it.

    Raises:
        Invalid: it cannot be read, or names a graph, a model or an input that is not there.
    """
    folder = model if model.is_dir() else model.parent
    serve = _decode(file)
    models = serve.models if isinstance(serve, ModelSet) else {"": serve}
    checked: dict[str, OnnxModel] = {}
    sources: Sources = {}
    placed: dict[str, OnnxGraph | Pipeline | Ensemble] = {}
    for name, one in models.items():
        if not isinstance(one, OnnxGraph):
            placed[name] = one
            continue
        inside, graph = graph_path(one.file), check_onnx(folder / one.file)
        if sources.get(inside, graph.file) != graph.file:
            raise Invalid(f"two graphs would both become {inside}", element=one.file, remedy="rename one of the files")
        checked[name], placed[name] = graph, msgspec.structs.replace(one, file=inside)
        sources |= {inside: graph.file} | weights_sources(graph, str(PurePosixPath(inside).parent))
    if isinstance(serve, ModelSet):
        main = placed.get(serve.main)
        if main is None:
            names = ", ".join(models) or "it has none"
            raise Invalid(
                f"{serve.main} is not one of its models ({names})", element=f"{file}: main", remedy="name one of them"
            )
        _check_steps(main, checked, f"{file}: models.{serve.main}")
        return Declared(msgspec.structs.replace(serve, models=placed), sources)
    (graph_part,) = placed.values()
    assert isinstance(graph_part, OnnxGraph)  # noqa: S101  it was one before it got its path
    return Declared(graph_part, sources)


def _decode(file: Path) -> OnnxGraph | ModelSet:
    try:
        data = file.read_bytes()
        if len(data) > LIMIT:
            raise Invalid(f"more than {LIMIT} bytes", element=str(file))
        # JSON is YAML too.
        found: OnnxGraph | ModelSet = msgspec.convert(yaml.safe_load(data), OnnxGraph | ModelSet)
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        raise Invalid(
            f"this does not declare what to serve: {' '.join(str(error).split())}",
            element=str(file),
            remedy="write kind: onnx with file, or kind: models with models and main, as docs/modules.md has it",
        ) from error
    return found


def _check_steps(one: OnnxGraph | Pipeline | Ensemble, graphs: dict[str, OnnxModel], where: str) -> None:
    """Each step names a graph of the module, and inputs that this graph has."""
    if isinstance(one, Ensemble):
        _graph(one.models[0] if one.models else "", graphs, where)
    for step in one.steps if isinstance(one, Pipeline) else ():
        taken = _graph(step.model, graphs, where).inputs
        if taken is None:
            continue
        for theirs in step.inputs:
            if theirs not in taken:
                raise Invalid(f"{step.model} has no input {theirs}", element=where, remedy=f"it has {', '.join(taken)}")


def _graph(name: str, graphs: dict[str, OnnxModel], where: str) -> OnnxModel:
    if name not in graphs:
        raise Invalid(f"{name or 'nothing'} is not a graph of this module", element=where, remedy=", ".join(graphs))
    return graphs[name]
