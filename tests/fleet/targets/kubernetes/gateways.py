"""The gateways' pods of an endpoint in the double, each with its real program, that program's files, and a real port.

A version's replicas are a program that answers as a test says; the cluster's name of its group leads there.
"""

import http.client
import http.server
import json
import ssl
import sys
import threading

from fleet.targets.container.specs import DOOR
from fleet.targets.kubernetes import front
from modules.protocol.endpoint import TABLE
from tests.doubles.wishes import KEYS
from tests.parts.programs import Program

PORT = 8700


class Replica(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        said = json.dumps(self.server.says).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Gateways:
    """``follow`` starts the program of each gateway's pod that has none, and ends those of pods that have gone."""

    def __init__(self, place, folder):
        self.place, self.folder, self.programs, self._replicas = place, folder, {}, {}

    def replica(self, version):
        """What stands for a version's replicas; ``status`` is what it answers, ``says`` what it says of itself."""
        if version not in self._replicas:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replica)
            server.status, server.says, server.daemon_threads = 200, {"ready": True}, True
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            self._replicas[version] = server, thread
        return self._replicas[version][0]

    def close(self):
        for name in list(self.programs):
            self.end(name)
        for server, thread in self._replicas.values():
            server.shutdown()
            thread.join()
            server.server_close()

    def follow(self):
        pods = {one["metadata"]["name"]: one for one in self.place.of("Pod", "gateway")}
        for name in self.programs.keys() - pods.keys():
            self.end(name)
        for name in sorted(pods.keys() - self.programs.keys()):
            self.start(pods[name])
        return sorted(self.programs)

    def end(self, name):
        """As a container that is killed: its pod is there still."""
        self.programs.pop(name).kill()
        del self.place.cluster.proxying.listens["models", name, PORT]

    def start(self, pod):
        name, spec = pod["metadata"]["name"], pod["spec"]
        folder, ready = self.folder / name, self.folder / f"{name}.ready"
        folder.mkdir(exist_ok=True)
        ready.unlink(missing_ok=True)
        (volume,) = (one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one)
        for file, data in front.data(self.place.cluster.object("Secret", volume, "models")).items():
            (folder / file).write_bytes(self._led(data) if file == TABLE else data)
        (container,) = spec["containers"]
        words = [one.replace(DOOR, str(folder)) for one in (*container["command"], *container["args"])]
        words = [one.replace(f"0.0.0.0:{PORT}", "127.0.0.1:0") for one in words]
        program = Program(name, [sys.executable, *words[1:], "--ready-file", str(ready)], self.folder / f"{name}.log")
        self.programs[name] = program
        program.start(ready.exists)
        self.place.cluster.proxying.listens["models", name, PORT] = int(ready.read_text().rpartition(":")[2])

    def ask(self, name, count, *, secure=False):
        """So many requests of clients at one gateway; the statuses that they got."""
        port = self.place.cluster.proxying.listens["models", name, PORT]
        headers = {"Authorization": f"Bearer {KEYS[0]}", "Content-Type": "application/json"}
        if secure:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port)
        found = []
        for _ in range(count):
            connection.request("POST", "/digits/score", b"{}", headers)
            answer = connection.getresponse()
            answer.read()
            found.append(answer.status)
        connection.close()
        return found

    def _led(self, table):
        told = json.loads(table)
        for version in told["slots"]["digits"]["versions"]:
            at = f"127.0.0.1:{self.replica(version['name']).server_address[1]}"
            for one in version["replicas"]:
                one["url"] = f"http://{at}"
            version["each"] = f"http://{at}"
        return json.dumps(told).encode()
