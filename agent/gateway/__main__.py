"""``edgefleet-gateway``: the device's one scoring address."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent import settings as agent_settings
from agent.gateway.keeper import Held
from agent.gateway.listening import own_socket, passed_socket
from agent.gateway.server import run
from agent.gateway.settings import Settings
from modules import program
from modules.errors import BadSettings, EdgefleetError
from modules.words import log_lines, printable

SPENT = "cloud-requests.json"
HELP = {
    "connections": "connections at a time",
    "head_s": "seconds in which a new connection must send the head of its first request",
    "max_body": "largest request body, bytes",
    "replay_body": "largest body kept to be sent again, bytes",
    "replay_total": "all kept bodies together, bytes",
    "whole_answer": "largest answer sent in one piece, bytes",
    "concurrent": "requests that one slot works on at a time",
    "waiting": "requests that may wait for a slot",
    "wait_s": "seconds that they may wait",
    "held": "requests that may wait for the end of a swap",
    "hold_s": "seconds that they may wait",
    "connect_s": "seconds to connect to a module or fallback",
    "answer_s": "seconds that a module may be silent",
    "cloud_concurrent": "requests that a slot has under way to its fallback at a time",
    "cloud_waiting": "requests that may wait for one of these places",
    "cloud_wait_s": "seconds that they may wait",
    "cloud_answer_s": "seconds that a fallback may be silent",
    "cloud_failures": "failures in a row after which a fallback is left alone",
    "cloud_pause_s": "seconds that it is left alone at first, doubled with each failed try",
    "cloud_longest_pause_s": "seconds that it is left alone at most",
    "body_s": "seconds that a client may be silent within its body",
    "idle_s": "seconds that an unused connection to a module is kept",
    "grace_s": "seconds in which connections already made are still served when the gateway stops",
    "drain_s": "seconds that running requests get when the gateway stops",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgefleet-gateway", description="The device's one scoring address.")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="the routing table (default: where the agent's settings put it)"
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="used where systemd passes no socket (default: gateway_address of the agent's settings, 127.0.0.1:8700)",
    )
    parser.add_argument(
        "--held-port",
        type=Path,
        metavar="FILE",
        help="serve as well at the port that python -m agent.gateway.keeper holds and gives here",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which clients ask",
    )
    parser.add_argument(
        "--access",
        type=Path,
        metavar="FILE",
        help='serve an endpoint, and let in who has a key: {"keys": ["..."]}; more of it in docs/settings.md',
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="speak TLS, with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument(
        "--state", type=Path, metavar="FOLDER",
        help="where it is kept how many requests went to the cloud today (default: systemd's, else beside the table)",
    )  # fmt: skip
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="write the bound address here when serving")
    for field in msgspec.structs.fields(Settings):
        if field.name in HELP:
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, default=field.default, metavar="N", help=f"{HELP[field.name]} (%(default)s)")
    return parser


def _settings(arguments: argparse.Namespace, known: agent_settings.Settings) -> Settings:
    values: dict[str, Any] = {name: getattr(arguments, name) for name in HELP}
    values |= {"hosts": arguments.allow_host, "private_fallbacks": known.fallback_hosts}
    values |= {name: getattr(arguments, name) for name in ("access", "tls_certificate", "tls_key")}
    table = arguments.table or known.table
    state = arguments.state or os.environ.get("STATE_DIRECTORY") or table.parent
    try:
        return msgspec.convert({**values, "table": table, "spent": Path(state, SPENT)}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(str(error), element="edgefleet-gateway", remedy="see edgefleet-gateway --help") from error


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop. Exit code 78 (EX_CONFIG) means that the settings must be changed first."""
    arguments = _parser().parse_args(argv)
    log_lines(logging.INFO, "%(levelname)s %(name)s: %(message)s")
    try:
        known = agent_settings.load()
        settings = _settings(arguments, known)
        listener = passed_socket(os.environ) or own_socket(arguments.listen or known.gateway_address)
        with listener:
            held = None if arguments.held_port is None else Held(arguments.held_port)
            asyncio.run(run(settings, listener, ready_file=arguments.ready_file, held=held))
    except EdgefleetError as error:
        print(f"edgefleet-gateway: {printable(str(error))}", file=sys.stderr)
        return os.EX_CONFIG
    return 0


if __name__ == "__main__":
    program.run("edgefleet-gateway", main)
