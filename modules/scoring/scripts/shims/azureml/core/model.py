"""What entry scripts import as ``azureml.core.model``: where the files of a model are. Ours."""

import os
import re
from pathlib import Path
from typing import Any

_VERSION = re.compile(r"\d+(\.\d+)*", re.ASCII)
# What a file system can have.
_NAME = re.compile(r"(?s)[^\0\ud800-\udfff]{1,1000}")


class ModelNotFoundException(Exception):
    """There is no such model here."""


class Model:
    """The one part that entry scripts use; a device has no workspace to ask for more."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(
            "a module has no workspace: use Model.get_model_path(name) or the environment variable AZUREML_MODEL_DIR"
        )

    @staticmethod
    def get_model_path(model_name: str, version: object = None, _workspace: object = None) -> str:
        """The model's file, or its folder where it has several files.

        Looks in ``$AML_APP_ROOT/azureml-models/NAME/VERSION``, in ``$AZUREML_MODEL_DIR/NAME/VERSION``, in
        ``$AZUREML_MODEL_DIR`` where that is a single model, and in the working folder; without a version, for the
        highest. A single model whose folder says neither name nor version is taken for any name, which is printed.

        Raises:
            ModelNotFoundException: it is in none of these, or not in this version; the message names what there is.
        """
        if not isinstance(model_name, str) or not model_name.strip("./") or not _NAME.fullmatch(model_name):
            # An empty name, from a setting that is missing, would be the folder of all models.
            raise ModelNotFoundException(f"{model_name!r:.200} is not a model's name")
        if version is not None and not _VERSION.fullmatch(str(version)):
            # As a path it would lead to whatever stands there.
            raise ModelNotFoundException(f"{version!r:.200} is not a model's version, which is a number")
        given = Path(os.environ.get("AZUREML_MODEL_DIR", "."))
        roots = [Path(os.environ.get("AML_APP_ROOT", "."), "azureml-models"), given]
        for root in roots:
            if found := _version_of(root / model_name, version):
                return str(_only(found))
        if version is None and (given / model_name).exists():
            return str(given / model_name)
        named = _VERSION.fullmatch(given.name) is not None
        if named and given.parts[-2:-1] == (model_name,) and (version is None or str(version) == given.name):
            return str(_only(given))
        if version is None and Path(model_name).exists():
            return model_name
        if not named and version is None and not _versions_in(given) and _alone(given):
            only = _only(given)
            print(f"Model.get_model_path({model_name!r}): nothing here says a model's name, so it is {only}")  # noqa: T201 - for the log of the script
            return str(only)
        raise _not_found(model_name, version, [*roots, Path.cwd()])


def _version_of(folder: Path, version: object) -> Path | None:
    if version is not None:
        found = folder / str(version)
        return found if found.is_dir() else None
    inside = folder.iterdir() if folder.is_dir() else ()
    versions = [one for one in inside if one.is_dir() and _VERSION.fullmatch(one.name)]
    return max(versions, key=lambda one: tuple(map(int, one.name.split("."))), default=None)


def _versions_in(folder: Path) -> list[str]:
    """Models of the layout ``NAME/VERSION`` in a folder."""
    names = folder.iterdir() if folder.is_dir() else ()
    return sorted(one.name for one in names if one.is_dir() and _version_of(one, None))


def _alone(folder: Path) -> bool:
    """Whether a model's files stand in the folder, which is not the script's own."""
    known = "AZUREML_MODEL_DIR" in os.environ and folder.is_dir()
    return known and folder.resolve() != Path.cwd() and any(folder.iterdir())


def _only(folder: Path) -> Path:
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 else folder


def _not_found(name: str, version: object, places: list[Path]) -> ModelNotFoundException:
    known = sorted({model for place in places for model in _versions_in(place)})
    given = Path(os.environ.get("AZUREML_MODEL_DIR", "."))
    if _VERSION.fullmatch(given.name) and _alone(given):
        known.append(f"{given.parent.name} version {given.name}")
    wanted = f"{name} version {version}" if version is not None else name
    return ModelNotFoundException(
        f"there is no model {wanted} in {', '.join(map(str, places))}; there is {', '.join(known) or 'none'}. "
        "Several models, or versions that scripts ask for, are laid out as NAME/VERSION/file"
    )
