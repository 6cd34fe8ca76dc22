"""A private image registry on loopback: it speaks what an engine pulls with, to those who know the password."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "robot", "pass-phrase-7"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@contextmanager
def registry(*names: str) -> Iterator[str]:
    """Gives its address; every name is an image with one small file, tag ``1``."""
    blobs, manifest = _image()
    granted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    paths = {"/v2/": (b"{}", "application/json")}
    for name in names:
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        for reference in ("1", digest):
            paths[f"/v2/{name}/manifests/{reference}"] = (manifest, _MANIFEST)
        for blob in blobs:
            paths[f"/v2/{name}/blobs/sha256:{hashlib.sha256(blob).hexdigest()}"] = (blob, "application/octet-stream")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != granted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="registry"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body, kind = paths.get(self.path, (b"", ""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  as the library calls it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield "{}:{}".format(*server.server_address[:2])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _image() -> tuple[list[bytes], bytes]:
    """Its blobs and its manifest."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        member = tarfile.TarInfo("private.txt")
        member.size = 8
        out.addfile(member, io.BytesIO(b"private\n"))
    layer = gzip.compress(tar.getvalue(), mtime=0)
    diff = hashlib.sha256(tar.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
        }
    ).encode()

    def descriptor(kind: str, blob: bytes) -> dict[str, object]:
        return {"mediaType": kind, "size": len(blob), "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}"}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": descriptor(_CONFIG, config),
            "layers": [descriptor(_LAYER, layer)],
        }
    ).encode()
    return [config, layer], manifest
