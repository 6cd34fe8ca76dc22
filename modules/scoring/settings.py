"""Command line, manifest and environment, read once into one frozen :class:`Settings`.

Later wins: built-in default, manifest, Azure ML's names (file, then environment), ``EDGEFLEET_SETTINGS``. The
adjustable settings of a module are only those that its manifest declares, within the bounds it gives.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import msgspec

from modules import bodies, memory
from modules import manifest as manifests
from modules.canonical import UNREADABLE
from modules.cores import granted, threads
from modules.errors import BadSettings, Invalid
from modules.manifest import Ensemble, EntryScript, ImageInput, Manifest, OnnxGraph, Pipeline
from modules.names import ModuleRef
from modules.scoring.logs import FORMATS
from modules.scoring.runtime import ProviderChoice
from modules.scoring.scripts import azure_settings
from modules.scoring.scripts.azure_settings import AzureSettings
from modules.settable import Adjustable, check_setting

CPU: Final = ("CPUExecutionProvider",)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_LEVEL: Final = Adjustable(default="info", choices=LOG_LEVELS)
BATCHING: Final = Adjustable(default="on", choices=("on", "off"))
TIMEOUT_MS: Final = Adjustable(default=3_600_000.0, minimum=1)
MAX_UNIX_PATH: Final = 107
MAX_PORT: Final = 65_535
# What a client can make the server keep before it has sent a whole request.
PER_CLIENT: Final = 512 << 10


class BadCommandLine(BadSettings):
    """The command line itself: nothing named to serve, or no address to serve it at."""

    code = "bad-command-line"


class Graph(msgspec.Struct, frozen=True):
    """A graph served without code, and how images become its input."""

    file: Path
    image: ImageInput | None = None


class Script(msgspec.Struct, frozen=True):
    """An entry script, the folder that goes first on its ``sys.path``, and the one named by ``AZUREML_MODEL_DIR``."""

    file: Path
    source: Path
    model_dir: Path


class Several(msgspec.Struct, frozen=True):
    """Models by name, the one that ``/score`` asks, and the bytes that graphs on demand may take (0: all stay)."""

    models: dict[str, Graph | Pipeline | Ensemble]
    main: str
    memory: int


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what clients can make the server keep; sizes in bytes.

    ``max_body`` bounds one body, ``max_text`` one of JSON or text, which takes many times its size once it is read,
    ``max_held`` all bodies in memory, ``max_queue`` the requests that wait for a model. After SIGTERM what is in flight
    has ``drain_s`` seconds.
    """

    max_body: Annotated[int, msgspec.Meta(ge=1)] = 100 << 20
    max_text: Annotated[int, msgspec.Meta(ge=1)] = 100 << 20
    max_held: Annotated[int, msgspec.Meta(ge=1)] = 512 << 20
    max_queue: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 4096
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0


class Tls(msgspec.Struct, frozen=True):
    """Files in PEM: the certificate with its chain, and its key."""

    certificate: Path
    key: Path


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the server is told.

    ``access`` is the file with keys, and it and ``tls`` are for TCP alone, ``grpc_port`` included. ``threads`` follow
    from ``cores``.
    """

    serves: Graph | Script | Several
    name: str
    module: ModuleRef | None = None
    unix: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    grpc_port: int | None = None
    providers: tuple[ProviderChoice, ...]
    log_level: str
    score_timeout_ms: float
    batching: bool = True
    cores: float
    threads: int
    limits: Limits = Limits()
    access: Path | None = None
    tls: Tls | None = None
    log_format: str = "text"
    azure: AzureSettings = AzureSettings()
    notes: tuple[str, ...] = ()


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings of this process.

    Raises:
        BadCommandLine: nothing to serve is named, or no usable address.
        BadSettings: a value in the environment cannot be used.
        Invalid: the manifest is none.
    """
    line = _parse(arguments)
    by_script = not (line.module or line.model)
    config = line.config or (azure_settings.found(environment, line.script) if by_script else None)
    azure, unknown = azure_settings.read(environment, config)
    if line.workers is not None:
        azure = msgspec.structs.replace(azure, workers=line.workers)
    if line.module:
        manifest = _manifest(line.module)
        serves = _serves(manifest, line.module / "files")
        name, module, adjustable = str(manifest.name), manifest.ref, manifest.adjustable
        default_providers: tuple[str, ...] = manifest.runtimes[0].providers
    else:
        serves = Graph(line.model) if line.model else _script(line, azure)
        name, module = (serves.file if isinstance(serves, Graph | Script) else line.model).stem, None
        adjustable = {"batching": BATCHING, "log_level": LOG_LEVEL, "score_timeout_ms": TIMEOUT_MS}
        default_providers = CPU
    values = _adjusted(adjustable, azure, environment)
    cores = granted()
    return Settings(
        serves=serves, name=name, module=module, unix=line.unix, host=line.host or "127.0.0.1", port=line.port or 0,
        grpc_port=line.grpc_port,
        providers=_providers(environment, default_providers), log_level=values["log_level"],
        score_timeout_ms=values["score_timeout_ms"],
        batching=values["batching"] == "on", cores=cores, threads=threads(cores), limits=_limits(environment),
        log_format=_log_format(environment), azure=azure,
        notes=tuple(f"{config}: nobody knows the setting {name}" for name in unknown),
        **({} if line.unix else _guard(environment)),
    )  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadCommandLine(message, element="command line", remedy="see --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m modules.scoring", description="Serve one module at /score.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--module", type=Path, metavar="DIR", help="a folder with manifest.json and files/")
    what.add_argument("--model", type=Path, metavar="FILE", help="an ONNX graph without a manifest")
    what.add_argument(
        "--script", type=Path, metavar="FILE", help="an entry script without a manifest (default: AZUREML_ENTRY_SCRIPT)"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings under Azure ML's names, in JSON")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that run the script (WORKER_COUNT)")
    parser.add_argument(
        "--model-dir", type=Path, metavar="DIR", help="AZUREML_MODEL_DIR of --script (default: its folder)"
    )
    parser.add_argument("--unix", type=Path, metavar="SOCKET", help="listen on a Unix socket")
    parser.add_argument("--host", help="listen on TCP at this address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="TCP port")
    parser.add_argument("--grpc-port", type=int, metavar="PORT", help="answer the Open Inference Protocol over gRPC")
    line = parser.parse_args(arguments)
    if (line.unix is None) == (line.port is None) or (line.unix and line.host):
        parser.error("give either --unix SOCKET or --host and --port")
    for port in (line.port, line.grpc_port):
        if port is not None and not 0 <= port <= MAX_PORT:
            parser.error(f"{port} is not a valid port")
    if line.grpc_port is not None and line.unix:
        parser.error("--grpc-port goes with --host and --port")
    if line.unix and len(str(line.unix).encode()) > MAX_UNIX_PATH:
        parser.error(f"the path of the socket is longer than {MAX_UNIX_PATH} bytes: {line.unix}")
    for name in ("module", "model", "script", "model_dir", "unix", "config"):
        if getattr(line, name):
            setattr(line, name, getattr(line, name).absolute())
    if line.workers is not None and line.workers < 1:
        parser.error(f"{line.workers} workers serve nobody")
    return line


def _script(line: argparse.Namespace, azure: AzureSettings) -> Script:
    """The script of the command line, or else the one that Azure ML's settings name.

    Raises:
        BadCommandLine: neither names one.
    """
    if line.script:
        given = Path(azure.app_root or ".", azure.model_dir).absolute() if azure.model_dir else line.script.parent
        return Script(line.script, line.script.parent, line.model_dir or given)
    if (named := azure.script()) is None:
        raise BadCommandLine(
            "nothing to serve is named", element="command line",
            remedy="give --module, --model or --script, or set AZUREML_ENTRY_SCRIPT",
        )  # fmt: skip
    file, source, model_dir = named
    return Script(file, source, line.model_dir or model_dir)


def _manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        return manifests.decode(path.read_bytes())
    except OSError as error:
        raise Invalid(
            f"cannot be read: {error.strerror}", element=str(path), remedy="name a folder with manifest.json and files/"
        ) from error


def _serves(manifest: Manifest, files: Path) -> Graph | Script | Several:
    serve = manifest.serve
    if isinstance(serve, EntryScript):
        return Script(files / serve.script, files / serve.source, files / serve.model_dir)
    if isinstance(serve, OnnxGraph):
        return _graph(serve, files)
    models = {name: _graph(one, files) if isinstance(one, OnnxGraph) else one for name, one in serve.models.items()}
    return Several(models, serve.main, serve.memory_mb << 20)


def _graph(graph: OnnxGraph, files: Path) -> Graph:
    return Graph(files / graph.file, graph.image if isinstance(graph.image, ImageInput) else None)


def _providers(environment: Mapping[str, str], default: tuple[str, ...]) -> tuple[ProviderChoice, ...]:
    """The execution providers in order: a JSON list of names, or of pairs of name and options."""
    if not (text := environment.get("EDGEFLEET_PROVIDERS")):
        return tuple((name, {}) for name in default)
    try:
        entries = msgspec.json.decode(text, type=list[str | tuple[str, dict[str, str]]])
    except UNREADABLE as error:
        raise BadSettings(
            str(error), element="EDGEFLEET_PROVIDERS", remedy='write a JSON list such as ["CPUExecutionProvider"]'
        ) from error
    return tuple((entry, {}) if isinstance(entry, str) else entry for entry in entries) or ((CPU[0], {}),)


def fitting(granted_bytes: int | None) -> Limits:
    """Limits for so many bytes of memory, at most the built-in ones: what clients send must never be the end of us."""
    if granted_bytes is None:
        return Limits()
    most = bodies.bearable(granted_bytes)
    sizes = {"max_body": most.body, "max_text": most.text, "max_held": bodies.free(granted_bytes) // 4}
    sizes["max_connections"] = granted_bytes // PER_CLIENT
    return Limits(**{name: max(1, min(getattr(Limits(), name), size)) for name, size in sizes.items()})


def _limits(environment: Mapping[str, str]) -> Limits:
    try:
        given = msgspec.json.decode(environment.get("EDGEFLEET_LIMITS") or "{}", type=dict[str, Any])
        return msgspec.convert({**msgspec.structs.asdict(fitting(memory.granted())), **given}, Limits)
    except UNREADABLE as error:
        names = ", ".join(Limits.__struct_fields__)
        raise BadSettings(
            str(error), element="EDGEFLEET_LIMITS", remedy=f"a JSON object with some of {names}"
        ) from error


def _guard(environment: Mapping[str, str]) -> dict[str, Any]:
    """What stands between a TCP port and everybody: keys, and TLS."""
    certificate, key = (environment.get(f"EDGEFLEET_TLS_{name}") for name in ("CERTIFICATE", "KEY"))
    if bool(certificate) != bool(key):
        raise BadSettings(
            "a certificate needs its key, and a key its certificate", element="EDGEFLEET_TLS_CERTIFICATE",
            remedy="set EDGEFLEET_TLS_KEY as well",
        )  # fmt: skip
    access = environment.get("EDGEFLEET_ACCESS_FILE")
    return {
        "access": Path(access) if access else None,
        "tls": Tls(Path(certificate), Path(key)) if certificate and key else None,
    }


def _log_format(environment: Mapping[str, str]) -> str:
    form = environment.get("EDGEFLEET_LOG_FORMAT") or FORMATS[0]
    if form not in FORMATS:
        raise BadSettings(f"{form!r} is none of {', '.join(FORMATS)}", element="EDGEFLEET_LOG_FORMAT")
    return form


def _adjusted(
    adjustable: Mapping[str, Adjustable], azure: AzureSettings, environment: Mapping[str, str]
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "batching": BATCHING.default, "log_level": LOG_LEVEL.default, "score_timeout_ms": TIMEOUT_MS.default,
    }  # fmt: skip
    values |= {name: setting.default for name, setting in adjustable.items()}
    given: dict[str, Any] = {}
    values |= {"score_timeout_ms": azure.timeout_ms} if azure.timeout_ms else {}
    values |= {"log_level": azure.log_level} if azure.log_level else {}
    try:
        if text := environment.get("EDGEFLEET_SETTINGS"):
            given = msgspec.json.decode(text, type=dict[str, Any])
        for name, value in given.items():
            check_setting(name, adjustable[name], value)
        values |= given
        check_setting("batching", BATCHING, values["batching"])
        check_setting("log_level", LOG_LEVEL, values["log_level"])
        check_setting("score_timeout_ms", TIMEOUT_MS, values["score_timeout_ms"])
    except (ValueError, RecursionError, Invalid, KeyError) as error:
        reason = f"{error} is not adjustable" if isinstance(error, KeyError) else str(error)
        raise BadSettings(
            reason, element="EDGEFLEET_SETTINGS", remedy="set only what the manifest declares adjustable"
        ) from error
    return values
