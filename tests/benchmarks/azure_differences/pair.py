"""One entry script in both servers at once, and what they answer, freed of what differs between any two answers."""

import contextlib
import fnmatch
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from tests.benchmarks.azure_differences.asked import GROUPS, each
from tests.benchmarks.serving.servers import PEERS, environment

START_S, ANSWER_S = 60, 30
HOST = "module.example"
NAMED = {"SERVICE_NAME": "plants"}
# Of the connection, not of the answer.
FRAMING = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}
MADE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Script:
    """One section of ``scripts.md``."""

    def __init__(self, section):
        self.name, _, text = section.partition("\n")
        rest = _BLOCK.sub("", text)
        self.files = {name or "score.py": body for _, name, body in _BLOCK.findall(text)}
        groups = re.search(r"^Asked: (.*)\.$", rest, re.MULTILINE)[1].split()
        settings = re.search(r"^With: (.*)\.$", rest, re.MULTILINE)
        given = dict(one.split("=", 1) for one in settings[1].split()) if settings else {}
        self.settings = {name: value for name, value in (NAMED | given).items() if value}
        self.entry = next(name for name in self.files if name.endswith("score.py"))
        self.asked = {
            f"{group}/{name}": one for group in groups if group != "each" for name, one in GROUPS[group].items()
        }
        if "each" in groups:
            self.asked |= {f"each/{name}": each(name) for name in self._cases()}

    def _cases(self):
        """The keys of its ``CASES``, without running it."""
        text = self.files[self.entry].partition("CASES = {")[2].partition("\n}")[0]
        return dict.fromkeys(re.findall(r'(?:^|, |\{)\s*"([^"]+)": (?=lambda|[a-z])', text, re.MULTILINE))

    def write(self, folder):
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


class Side:
    """One of the two servers."""

    def __init__(self, name, command, script, folder, **more):
        self.name = name
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        given = {key: value.replace("FOLDER", str(folder)) for key, value in script.settings.items()}
        self.log = folder.with_suffix(f".{name}.log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*map(str, command), "--port", str(self.port)], stdout=log, stderr=log, start_new_session=True,
                cwd=folder, env=os.environ | given | more,
            )  # fmt: skip

    def ready(self):
        """Its exit code where it ended instead, else None."""
        end = time.monotonic() + START_S
        while self._process.poll() is None:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not start: see {self.log}")
            if self.ask("GET", "/", [], None)["status"] == 200:
                return None
            time.sleep(0.05)
        return self._process.returncode

    def ask(self, method, target, headers, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            given = {name.lower() for name, _ in headers}
            if "host" not in given:
                connection.putheader("Host", HOST)
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            chunked = "transfer-encoding" in given
            if body is not None and not chunked:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body, encode_chunked=chunked)
            return freed(connection.getresponse())
        except (OSError, http.client.BadStatusLine, http.client.IncompleteRead) as error:
            return {"status": type(error).__name__}
        finally:
            connection.close()

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


def freed(response):
    """Field -> value of an answer: status, body, and each header."""
    body, headers = response.read(), {}
    for name, value in response.getheaders():
        listed = ", ".join(sorted(value.split(", "))) if name.lower() == "allow" else value
        if name.lower() not in FRAMING:
            headers.setdefault(f"header {name.lower()}", []).append(MADE.sub("made", listed))
    for name, told in (("x-ms-run-fn-exec-ms", "a time"), ("x-ms-server-version", "a version")):
        if f"header {name}" in headers:
            headers[f"header {name}"] = [told]
    if headers.get("header content-type") == ["application/json"]:
        with contextlib.suppress(ValueError):
            body = json.loads(body)
    if response.status >= 400 and isinstance(body, dict) and isinstance(body.get("message"), str):
        body = {"message": "..."}
    if isinstance(body, dict) and "paths" in body:
        said = dict(_leaves(body, "openapi"))
    else:
        # As text, so that True is not 1 and NaN is itself.
        said = {"body": body.decode("latin-1") if isinstance(body, bytes) else json.dumps(body)}
    return {"status": response.status, **said, **{name: sorted(values) for name, values in headers.items()}}


def _leaves(value, path):
    """An OpenAPI document as one field for each thing that it says, but for descriptions, which are for people.

    The order of what is required says nothing; examples stand as a whole.
    """
    if isinstance(value, dict) and value and not path.endswith("/example"):
        for name, inner in value.items():
            if name != "description" or not isinstance(inner, str):
                yield from _leaves(inner, f"{path}/{name}")
    elif path.endswith(("/required", "/schemes")) and isinstance(value, list):
        yield path, json.dumps(sorted(value))
    elif isinstance(value, list) and value and isinstance(value[0], dict) and "name" in value[0]:
        for inner in value:
            yield from _leaves(inner, f"{path}/{inner['name']}")
    else:
        yield path, json.dumps(value)


def compare(script, folder, wanted="*"):
    """Yield (case, field -> (theirs, ours)) for each pair of answers; no field where they agree."""
    script.write(folder)
    theirs = [environment("azureml-scripts"), "-P", PEERS / "azureml.py", "--entry_script", folder / script.entry]
    ours = [sys.executable, "-P", "-m", "modules.scoring"]
    if "AZUREML_ENTRY_SCRIPT" not in script.settings:
        ours += ["--script", folder / script.entry]
    sides = [
        Side("theirs", theirs, script, folder),
        Side("ours", ours, script, folder, EDGEFLEET_SCRIPT_PYTHON=str(environment("scripts"))),
    ]
    try:
        ends = [side.ready() for side in sides]
        if any(one is not None for one in ends):
            yield f"{script.name}/start", {"exit code": tuple(ends)} if ends[0] != ends[1] else {}
            return
        for name, request in script.asked.items():
            if fnmatch.fnmatch(name, wanted):
                one, other = (side.ask(*request) for side in sides)
                fields = [field for field in one | other if one.get(field) != other.get(field)]
                yield f"{script.name}/{name}", {field: (one.get(field), other.get(field)) for field in fields}
    finally:
        ends = tuple(side.stop() for side in sides)
    yield f"{script.name}/stop", {"exit code": ends} if ends[0] != ends[1] else {}
