"""``python -m fleet init|serve|token|broker-config|broker-probes``: the fleet server's own commands."""

import argparse
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from fleet import probes, tokens
from fleet.app import create_app
from fleet.audit import local
from fleet.broker_config import CONNECTIONS, MEMORY_MB, render
from fleet.connections import BoundedServer, Pace, paced
from fleet.db import in_words
from fleet.folder import ONLINE_ROLES, Folder, write_secret
from fleet.offline_keys import refuse
from fleet.online_keys import stage
from fleet.people import operator_commands, operators, passwords
from fleet.people.roles import ROLES, Grant
from fleet.settings import Settings
from fleet.setup import initialise, opened
from modules import program
from modules.errors import BadSettings, EdgefleetError
from modules.words import log_lines, printable

log = logging.getLogger("fleet")
# What a page of the console may send at once; uploads come by HTTP.
CONSOLE_MESSAGE: Final = 1 << 20


class _Server(BoundedServer):
    """Says where it listens, once it does."""

    def __init__(
        self, config: uvicorn.Config, ready: Path | None, url: str, *, handshake_s: float, loaded: Callable[[], None]
    ) -> None:
        super().__init__(config, handshake_s=handshake_s)
        self._ready, self._url, self._loaded = ready, url, loaded

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._loaded()
            log.info("serves %s, and listens at %s", self._url, _where(self.servers[0].sockets[0]))
        if self.started and self._ready is not None:
            # Renamed into place, so that whoever waits for the file never reads half of it.
            draft = self._ready.with_name(self._ready.name + ".new")
            draft.write_text(self._url + "\n")
            draft.replace(self._ready)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    log_lines(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    try:
        status: int = options.run(Settings(**given), options)
    except EdgefleetError as error:
        print(f"edgefleet-fleet: {printable(str(error))}", file=sys.stderr)
        return 1
    except SQLAlchemyError as error:
        print(f"edgefleet-fleet: {in_words(error)}", file=sys.stderr)
        return 1
    return status


def _init(settings: Settings, options: argparse.Namespace) -> int:
    folder = Folder(settings.data)
    if options.once and folder.ca.exists() and not folder.unfinished.exists():
        print(f"The fleet in {folder.root} was made before.")
        return 0
    token = initialise(
        folder,
        time.time,
        database=settings.database.get_secret_value(),
        names=options.name,
        broker_names=options.broker_name or options.name,
    )
    print(f"The fleet's CA: {folder.ca}")
    name, password = _first_operator(settings)
    if options.password_file is not None:
        write_secret(options.password_file, password.encode() + b"\n")
        print(f"The first operator is {name!r}; the password, which has to be changed first: {options.password_file}")
        print(f"The operator's token: {folder.operator_token}")
        return 0
    print(f"The first operator is {name!r}, with this password, which is shown once and has to be changed first:")
    print(password)
    print(f"The operator's token, also in {folder.operator_token}:")
    print(token)
    return 0


def _first_operator(settings: Settings) -> tuple[str, str]:
    """An admin with a random password, of another fleet none alike. Were it missing: edgefleet-fleet operators add."""
    password = passwords.made()
    hashed = passwords.Passwords().hashed(password)
    database = opened(settings)
    try:
        with database.write() as connection:
            now = time.time()
            operators.add(connection, now, operators.FIRST, [Grant("admin")], password=hashed, by=local.who())
            local.add(connection, now, "init", operators.FIRST)
    finally:
        database.close()
    return operators.FIRST, password


def _token(settings: Settings, options: argparse.Namespace) -> int:
    database = opened(settings)
    try:
        with database.write() as connection:
            life = None if options.days is None else options.days * 86400
            now = time.time()
            token = tokens.create(connection, now, kind="api", role=options.role, life_s=life)
            local.add(connection, now, "token", options.role)
    finally:
        database.close()
    print(token)  # once the database has it
    return 0


def _broker_config(settings: Settings, options: argparse.Namespace) -> int:
    configuration = render(
        options.folder,
        Folder(settings.data),
        device_port=settings.broker_port,
        service_port=settings.broker_service_port,
        prefix=settings.broker_prefix,
        host=options.listen,
        user=options.user,
        connections=options.connections,
        memory_mb=options.memory_mb,
    )
    print(f"mosquitto -c {configuration}")
    return 0


def _broker_probes(settings: Settings, options: argparse.Namespace) -> int:
    probes.write(options.folder, Folder(settings.data), settings)
    print(f"edgefleet broker check {options.folder}")
    return 0


def _new_key(settings: Settings, options: argparse.Namespace) -> int:
    key = stage(Folder(settings.data), options.role)
    print(f"A new key of {options.role} waits until the owner names it; until then the present one signs.")
    print(f"Its id: {key.keyid}")
    print(f"The owner's next step: edgefleet keys rotate {options.role}")
    return 0


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    folder = Folder(settings.data)
    database = opened(settings)
    try:
        refuse(folder, database, demo=settings.insecure_demo_keys)
    finally:
        database.close()
    _open_many_files()
    listener = _listen(settings.host, settings.port)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    blob_listener = None if settings.blob_port is None else _listen(settings.host, settings.blob_port)
    if blob_listener is not None:
        settings = settings.model_copy(update={"blob_port": blob_listener.getsockname()[1]})
    servers: list[_Server] = []
    app = create_app(settings, stop=lambda: setattr(servers[0], "should_exit", True), blob_listener=blob_listener)
    if settings.console:
        # By its name, for its library takes a second and 25 MB that a server without it does not have to spend.
        import_module("fleet.console.mount").mount(app)
    config = uvicorn.Config(
        app,
        ssl_certfile=folder.server if settings.tls else None,
        ssl_keyfile=folder.key(folder.server) if settings.tls else None,
        http=paced(Pace(settings.head_s, settings.body_s, frozenset(settings.trusted_proxies.split(",")))),
        loop="asyncio",
        # The console's pages speak over it, and send little: what is uploaded comes by HTTP.
        ws="websockets-sansio" if settings.console else "none",
        ws_max_size=CONSOLE_MESSAGE,
        log_config=None,
        access_log=False,
        server_header=False,
        # Anybody can write X-Forwarded-For: it counts only from proxies that the operator names.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        # A client that keeps an idle TLS connection and does not answer the goodbye holds the shut-down this long.
        timeout_graceful_shutdown=3,
    )

    def loaded() -> None:
        """The certificate is renewed while the server runs; who connects from then on sees the new one."""
        if config.ssl is not None:
            reload = partial(config.ssl.load_cert_chain, folder.server, folder.key(folder.server))
            app.state.services.upkeep.watch(folder.server, reload)

    servers.append(_Server(config, options.ready_file, settings.url, handshake_s=settings.handshake_s, loaded=loaded))
    try:
        servers[0].run(sockets=[listener])
    finally:
        listener.close()
    return 0 if servers[0].started else 1


def _where(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_many_files() -> None:
    """Each connection is a file: as many as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without its protocol's number asyncio leaves Nagle's algorithm on: each answer would wait 40 ms for a receipt.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise BadSettings(str(error), element=f"{host}:{port}", remedy="choose another host or port") from error
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgefleet-fleet", description="The fleet server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    init = _command(commands, "init", "make the data folder: CA, keys, database, operator token", _init)
    init.add_argument("--name", action="append", default=[], help="DNS name or address of this server (again for more)")
    init.add_argument("--broker-name", action="append", default=[], help="DNS name or address of the broker")
    init.add_argument("--once", action="store_true", help="do nothing where the fleet was made before")
    init.add_argument("--password-file", type=Path, help="write the first operator's password there; print no secret")
    serve = _command(commands, "serve", "run the server", _serve)
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    serve.add_argument("--public-url", help="address that devices are given")
    serve.add_argument("--blob-port", type=int, help="port where devices fetch blobs over HTTPS; 0 takes a free one")
    serve.add_argument("--blob-url", help="address of that port that devices are given")
    serve.add_argument(
        "--insecure-demo-keys",
        action="store_true",
        default=None,
        help="start although this server can read the offline keys: for a demonstration only",
    )
    serve.add_argument("--no-tls", dest="tls", action="store_false", default=None, help="speak plain HTTP")
    for name in ("--broker-host", "--broker-service-host", "--broker-prefix"):
        serve.add_argument(name)
    for name in ("--broker-port", "--broker-service-port"):
        serve.add_argument(name, type=int)
    serve.add_argument("--ready-file", type=Path, help="written with the server's address once it answers")
    keys = commands.add_parser(
        "keys", help="the server's own signing keys", description="The server's own signing keys."
    )
    new = _command(
        keys.add_subparsers(required=True, metavar="COMMAND"),
        "new",
        "make a new key of a role beside the present one, for the owner to name",
        _new_key,
    )
    new.add_argument("role", choices=ONLINE_ROLES)
    token = _command(commands, "token", "make another token for the API", _token)
    token.add_argument("--role", choices=sorted(ROLES), default="admin")
    token.add_argument("--days", type=float, help="how long it holds; without end if not given")
    people = _command(commands, "operators", "who may use the server: add, list, disable, give a password", None)
    operator_commands.add_to(people)
    broker = _command(commands, "broker-config", "write mosquitto's configuration for this fleet", _broker_config)
    broker.add_argument("folder", type=Path)
    broker.add_argument("--listen", default="0.0.0.0", help="address that the broker listens on")
    broker.add_argument(
        "--connections", type=_count, default=CONNECTIONS, help="the most devices at a time (default %(default)s)"
    )
    broker.add_argument(
        "--memory-mb",
        type=_count,
        default=MEMORY_MB,
        help="the most memory of the broker, in MiB (default %(default)s)",
    )
    broker.add_argument("--user", help="account that mosquitto runs as; without it, this one")
    for name in ("--broker-port", "--broker-service-port"):
        broker.add_argument(name, type=int)
    broker.add_argument("--broker-prefix")
    tried = _command(commands, "broker-probes", "write certificates to try a broker's rules with", _broker_probes)
    tried.add_argument("folder", type=Path, help="a new folder; remove it after the check")
    for name in ("--broker-host", "--broker-service-host", "--broker-prefix"):
        tried.add_argument(name)
    for name in ("--broker-port", "--broker-service-port"):
        tried.add_argument(name, type=int)
    return parser


def _count(text: str) -> int:
    """A number of things, of which there is at least one."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {1 << 20}")
    return int(text)


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: object
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--data", type=Path, help="the data folder")
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    program.run("edgefleet-fleet", main)
