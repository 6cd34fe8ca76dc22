"""The settings of Azure Machine Learning's server under their own names, from the environment or ``config.json``.

The environment wins over the file. What is set for that server and has no meaning here is accepted; what nobody knows
is named in the log.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import BadSettings

_NAMES: Final = {
    "entry_script": "AZUREML_ENTRY_SCRIPT", "source_directory": "AZUREML_SOURCE_DIRECTORY",
    "model_dir": "AZUREML_MODEL_DIR", "app_root": "AML_APP_ROOT", "timeout_ms": "SCORING_TIMEOUT_MS",
    "log_level": "AZUREML_LOG_LEVEL", "service_name": "SERVICE_NAME", "service_version": "SERVICE_VERSION",
    "path_prefix": "SERVICE_PATH_PREFIX", "cors_origins": "AML_CORS_ORIGINS", "workers": "WORKER_COUNT",
    "worker_timeout_s": "WORKER_TIMEOUT", "version_in_answers": "SERVER_VERSION_LOG_RESPONSE_ENABLED",
}  # fmt: skip
_LEVELS: Final = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "error"}
# Theirs, without effect: what they name is not here.
_WITHOUT_EFFECT: Final = frozenset({
    "AML_APP_INSIGHTS_ENABLED", "AML_APP_INSIGHTS_ENDPOINT", "AML_APP_INSIGHTS_KEY", "AML_MDC_STORAGE_ENABLED",
    "AML_MODEL_DC_STORAGE_ENABLED", "APP_INSIGHTS_LOG_RESPONSE_ENABLED", "HOSTNAME", "WORKSPACE_NAME",
})  # fmt: skip


class AzureSettings(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES.get):
    """What is set; None and empty are not set. Paths as they were written."""

    entry_script: str | None = None
    source_directory: str | None = None
    model_dir: str | None = None
    app_root: str | None = None
    timeout_ms: Annotated[float, msgspec.Meta(gt=0)] | None = None
    log_level: str | None = None
    service_name: str | None = None
    service_version: str | None = None
    path_prefix: str = ""
    cors_origins: str = ""
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    worker_timeout_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    version_in_answers: str = "true"

    @property
    def tells_version(self) -> bool:
        return self.version_in_answers.lower() == "true"

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(filter(None, (one.strip().rstrip("/") for one in self.cors_origins.split(","))))

    @property
    def prefix(self) -> str:
        """What stands before the paths in the OpenAPI document, such as ``/api/v1``; empty for none."""
        inside = self.path_prefix.strip("/")
        return f"/{inside}" if inside else ""

    def script(self) -> tuple[Path, Path, Path] | None:
        """The entry script, its source folder and its models' folder; None where no script is named."""
        if not self.entry_script:
            return None
        root = Path(self.app_root or ".")
        source = root / self.source_directory if self.source_directory else None
        named = root / self.entry_script
        file = (source / self.entry_script if source and not named.is_file() else named).absolute()
        folder = source.absolute() if source else file.parent
        return file, folder, (root / self.model_dir).absolute() if self.model_dir else folder


def found(environment: Mapping[str, str], script: Path | None) -> Path | None:
    """The configuration file where the command line names none; empty ones do not count.

    It is that of ``AZUREML_CONFIG_FILE``, or ``config.json`` in the application's root or beside the script.
    """
    root = environment.get("AML_APP_ROOT")
    entry = environment.get("AZUREML_ENTRY_SCRIPT")
    beside = script.parent if script else Path(root or ".", entry).parent if entry else None
    named = environment.get("AZUREML_CONFIG_FILE")
    places = [Path(named)] if named else []
    places += [Path(folder, "config.json") for folder in (root, beside) if folder]
    return next((place for place in places if place.is_file() and place.stat().st_size), None)


def read(environment: Mapping[str, str], file: Path | None) -> tuple[AzureSettings, list[str]]:
    """The settings, and the keys of the file that nobody knows.

    Raises:
        BadSettings: a value, or the file, cannot be used.
    """
    known = set(_NAMES.values())
    given = _file(file) if file else {}
    unknown = sorted(given.keys() - known - _WITHOUT_EFFECT)
    # A version such as 3 is text as much as it is in the environment.
    merged = {
        name: str(value) if isinstance(value, int | float) else value for name, value in given.items() if name in known
    }
    merged |= {name: environment[name] for name in known if environment.get(name)}
    try:
        settings = msgspec.convert(merged, AzureSettings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(
            str(error), element=str(error).rpartition("$.")[2].rstrip("`") or "environment",
            remedy="correct the environment variable, or the key of the configuration file",
        ) from error  # fmt: skip
    if settings.log_level is None:
        return settings, unknown
    level = _LEVELS.get(settings.log_level.lower())
    if level is None:
        raise BadSettings(
            f"{settings.log_level!r} is not a level", element="AZUREML_LOG_LEVEL", remedy=f"one of {', '.join(_LEVELS)}"
        )
    return msgspec.structs.replace(settings, log_level=level), unknown


def _file(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, *UNREADABLE) as error:
        raise BadSettings(str(error), element=str(path), remedy="name a JSON file with one object") from error
