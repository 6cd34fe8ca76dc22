"""What a module serves as its engineer declares it: several graphs, pipelines, ensembles, images in front of a graph.

The file is the part ``serve`` of a manifest (docs/modules.md), in JSON or YAML, with the graphs' files by their paths
below the registered folder.
"""

from pathlib import Path
from typing import Final

import msgspec
import yaml

from fleet.client.models.check_model import Input, OnnxModel, check_onnx
from fleet.client.publishing.pack import MODEL, Sources
from modules.errors import Invalid
from modules.manifest import Ensemble, ModelSet, OnnxGraph, Pipeline
from modules.names import module_path

LIMIT: Final = 1 << 20
_INPUT: Final = "input."


class Declared(msgspec.Struct, frozen=True):
    """``serve`` with paths in the module, the files that go there, and what ``/score`` takes."""

    serve: OnnxGraph | ModelSet
    sources: Sources
    inputs: tuple[Input, ...]


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
        inside = module_path(f"{MODEL}/{one.file}")
        checked[name] = check_onnx(folder / one.file)
        placed[name] = msgspec.structs.replace(one, file=inside)
        beside = Path(inside).parent
        graph = checked[name]
        sources |= {str(beside / path): graph.file.parent / path for path in (graph.file.name, *graph.external)}
    if isinstance(serve, ModelSet):
        main = placed.get(serve.main)
        if main is None:
            names = ", ".join(models) or "it has none"
            raise Invalid(
                f"{serve.main} is none of its models ({names})", element=f"{file}: main", remedy="name one of them"
            )
        where = f"{file}: models.{serve.main}"
        declared = msgspec.structs.replace(serve, models=placed)
        return Declared(declared, sources, _inputs(main, serve.main, checked, where))
    (graph_part,) = placed.values()
    assert isinstance(graph_part, OnnxGraph)  # noqa: S101  it was one before it got its path
    return Declared(graph_part, sources, checked[""].inputs)


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
            f"this is no declaration of what to serve: {' '.join(str(error).split())}",
            element=str(file),
            remedy="write kind: onnx with file, or kind: models with models and main, as docs/modules.md has it",
        ) from error
    return found


def _inputs(
    one: OnnxGraph | Pipeline | Ensemble, name: str, graphs: dict[str, OnnxModel], where: str
) -> tuple[Input, ...]:
    """What a graph, an ensemble's members, or a pipeline's steps take from outside."""
    if isinstance(one, OnnxGraph):
        return graphs[name].inputs
    if isinstance(one, Ensemble):
        return _graph(one.models[0] if one.models else "", graphs, where).inputs
    found: dict[str, Input] = {}
    for step in one.steps:
        taken = {each.name: each for each in _graph(step.model, graphs, where).inputs}
        for theirs, source in step.inputs.items():
            if theirs not in taken:
                raise Invalid(f"{step.model} has no input {theirs}", element=where, remedy=f"it has {', '.join(taken)}")
            if source.startswith(_INPUT):
                ours = source.removeprefix(_INPUT)
                found.setdefault(ours, msgspec.structs.replace(taken[theirs], name=ours))
    return tuple(found.values())


def _graph(name: str, graphs: dict[str, OnnxModel], where: str) -> OnnxModel:
    if name not in graphs:
        raise Invalid(f"{name or 'nothing'} is no graph of this module", element=where, remedy=", ".join(graphs))
    return graphs[name]
