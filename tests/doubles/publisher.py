"""A fleet's owner and one publishing team: they hold the offline keys and use the product's own trust functions."""

import base64
from datetime import UTC, datetime
from typing import Any

import httpx
from securesystemslib.signer import CryptoSigner, Key

from modules import manifest as manifests
from modules.digests import measure_bytes
from modules.manifest import File, Manifest, Needs, OnnxGraph, Proof, Runtime
from modules.names import Slug
from modules.signing import decode_keys
from modules.trust import repository


class Publisher:
    """Owner and team in one: founds the trust of a fleet, uploads modules, signs them."""

    def __init__(self, http: httpx.Client | None = None, team: str = "acme") -> None:
        self._http, self.team = http, Slug(team)
        self.root_signers = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.targets_signer = CryptoSigner.generate_ed25519()
        self.team_signer = CryptoSigner.generate_ed25519()
        self.founded: repository.Founded | None = None
        self.metadata = b""

    @property
    def http(self) -> httpx.Client:
        assert self._http is not None, "this publisher was given no server"
        return self._http

    def found(self) -> None:
        """Make root, targets and the team for the server's online keys, and hand them over."""
        self.prepare()
        assert self.founded is not None
        body = {
            name: base64.b64encode(getattr(self.founded, name)).decode() for name in ("root", "targets", "director")
        }
        teams = {self.team: base64.b64encode(self.metadata).decode()}
        checked(self.http.post("/api/v1/tuf-bootstrap", json=body | {"teams": teams}))

    def prepare(self, online: dict[str, Any] | None = None) -> None:
        """Make the first metadata for these online keys, the server's own unless given, and keep it."""
        documents = online or checked(self.http.get("/api/v1/tuf-online-keys")).json()
        keys = {role: Key.from_dict(entry.pop("keyid"), entry) for role, entry in documents.items()}
        self.founded = repository.create(
            root_signers=self.root_signers,
            targets_signers=[self.targets_signer],
            online=repository.OnlineKeys(**keys),
            teams={self.team: [self.team_signer.public_key]},
            now=datetime.now(UTC),
        )
        self.metadata = repository.create_team(team=self.team, signers=[self.team_signer], now=datetime.now(UTC))

    @property
    def director_keys(self) -> list[Key]:
        """Who may sign orders, as targets has it."""
        assert self.founded is not None
        return list(decode_keys(self.founded.director).values())

    def upload(self, name: str, files: dict[str, bytes], **parts: Any) -> Manifest:
        """Reserve a version, send the files and the manifest: a draft."""
        version = checked(self.http.post(f"/api/v1/models/{self.team}/{name}/versions")).json()["version"]
        manifest = module(self.team, name, version, files, **parts)
        for entry in manifest.files:
            checked(self.http.put(f"/api/v1/blobs/{entry.sha256}", content=files[entry.path]))
        path = f"/api/v1/modules/{self.team}/{name}/{version}"
        checked(self.http.put(path, content=manifests.encode(manifest)))
        return manifest

    def sign(self, manifest: Manifest) -> None:
        """Add a module to the team's metadata and send that."""
        self.metadata = self.signed_with(manifest)
        checked(self.http.post(f"/api/v1/tuf/teams/{self.team}", content=self.metadata))

    def signed_with(self, manifest: Manifest) -> bytes:
        """The team's next metadata, with this module."""
        return repository.add_target(
            self.metadata,
            team=self.team,
            path=manifest.ref.target,
            data=manifests.encode(manifest),
            signers=[self.team_signer],
            now=datetime.now(UTC),
        )


def module(team: str, name: str, version: str, files: dict[str, bytes], **parts: Any) -> Manifest:
    """A manifest for these files; the first is the graph. It needs 64 MiB and only runs as a process."""
    listed = []
    for path, data in files.items():
        blob = measure_bytes(data)
        listed.append(File(sha256=blob.sha256, length=blob.length, blocks=blob.blocks, path=path))
    given = {"needs": Needs(memory_mb=64), "proof": Proof(prove="ready-only"), "runtimes": (Runtime(),)} | parts
    return Manifest(
        team=Slug(team),
        name=Slug(name),
        version=version,
        serve=OnnxGraph(file=next(iter(files))),
        files=tuple(listed),
        **given,
    )


def checked(response: httpx.Response) -> httpx.Response:
    """The response if it is a success; otherwise fails with what the server said."""
    assert response.is_success, (
        f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
    )
    return response
