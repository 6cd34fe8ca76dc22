"""The cloud fallback over TLS, with the device's own certificate."""

import datetime as dt
import ipaddress
import ssl

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modules.protocol.routing import Fallback, Route, Upstream
from tests.agent.gateway.stage import Stage

PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority for one test; ``issue`` leaves ``<name>.pem`` and ``<name>.key`` in the folder."""

    def __init__(self, folder):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._signed(self._name, self._key.public_key(), authority=True).public_bytes(PEM))

    def issue(self, name, *, file="", uri="", minutes=60):
        """A certificate for ``name``, and for ``uri``, in files called so unless ``file`` says otherwise."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), authority=False, uri=uri, minutes=minutes)
        chain, secret = (self._folder / f"{file or name}.{kind}" for kind in ("pem", "key"))
        chain.write_bytes(certificate.public_bytes(PEM))
        private = (PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        secret.write_bytes(key.private_bytes(*private))
        return str(chain), str(secret)

    def _signed(self, subject, public, *, authority, uri="", minutes=60):
        now = dt.datetime.now(dt.UTC)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        address = x509.SubjectAlternativeName([*names, *([x509.UniformResourceIdentifier(uri)] if uri else [])])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(minutes=minutes))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
async def authority(folder):
    return Authority(folder)


async def start_cloud(stage, authority):
    """A TLS server that only talks to certificates of the authority and says whose it saw."""

    async def answer(request):
        subject = request.transport.get_extra_info("peercert")["subject"]
        return web.json_response({"seen": subject[0][0][1], "path": request.raw_path})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(*authority.issue("cloud"))
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    stage.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return f"https://127.0.0.1:{runner.addresses[0][1]}/digits/"


async def test_the_device_shows_its_own_certificate(folder, authority):
    """The fallback sees the device's certificate; after a renewal and a new table it sees the new one."""
    async with Stage(folder) as stage:
        url = await start_cloud(stage, authority)
        running = await stage.gateway()
        for name in ("device-1", "device-2"):
            cert, key = authority.issue(name)
            stage.route(digits=Route(fallback=Fallback(url=url, ca=str(authority.file), cert=cert, key=key)))
            async with running.post() as answer:
                assert await answer.json() == {"seen": name, "path": "/digits/score"}
                assert answer.headers["x-edgefleet-served-by"] == "fallback"


async def test_a_certificate_that_is_renewed_at_its_place_is_shown(folder, authority):
    """A new table is how the gateway learns that the files were replaced, though it names the same ones."""
    async with Stage(folder) as stage:
        url = await start_cloud(stage, authority)
        running = await stage.gateway()
        for name in ("device-1", "device-2"):
            cert, key = authority.issue(name, file="certificate")
            stage.route(digits=Route(fallback=Fallback(url=url, ca=str(authority.file), cert=cert, key=key)))
            async with running.post() as answer:
                assert (await answer.json())["seen"] == name


async def test_connections_to_the_cloud_outlive_a_table(folder):
    """The table changes while a module is started again, when the cloud is needed: nobody waits for TLS anew."""
    async with Stage(folder) as stage:
        cloud = await stage.scoring("cloud")
        await cloud.listen_on_tcp()
        running = await stage.gateway()
        seen = set()
        for _ in range(3):
            stage.route(digits=Route(fallback=Fallback(url=f"http://127.0.0.1:{cloud.port}")))
            async with running.post() as answer:
                assert answer.status == 200
            seen.update(cloud.connections)
        assert len(seen) == 1


async def test_no_cookie_of_one_client_is_sent_with_anothers_request(folder):
    """What a module or a cloud gives a client is that client's: the gateway keeps no cookies."""
    asked = []

    async def answer(request):
        asked.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "session=of-the-first; Path=/"})

    async with Stage(folder) as stage:
        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        stage.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(folder / "cookies.sock")).start()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = await stage.gateway()
        port = runner.addresses[-1][1]
        for route in (
            Route(current=Upstream(socket=str(folder / "cookies.sock"), module="m", provider="CPU", instance="i")),
            Route(fallback=Fallback(url=f"http://127.0.0.1:{port}/")),
        ):
            stage.route(digits=route)
            for cookie in ("mine=1", None):
                async with running.post(headers={"Cookie": cookie} if cookie else {}) as reply:
                    assert reply.headers["Set-Cookie"] == "session=of-the-first; Path=/"
                running.session.cookie_jar.clear()

    assert asked == ["mine=1", None] * 2


async def test_an_impostor_is_not_asked(folder, authority):
    """A fallback whose certificate is of another authority gets no request; the client gets 503."""
    async with Stage(folder) as stage:
        url = await start_cloud(stage, authority)
        running = await stage.gateway()
        stage.route(digits=Route(fallback=Fallback(url=url)))
        async with running.post() as answer:
            assert answer.status == 503


async def test_missing_certificate_files_are_named(folder):
    """Where the gateway may not read the device's certificate, the 503 says which fallback and why."""
    async with Stage(folder) as stage:
        running = await stage.gateway()
        stage.route(digits=Route(fallback=Fallback(url="https://127.0.0.1:1", cert=str(folder / "none.pem"))))
        async with running.post() as answer:
            assert answer.status == 503
            assert "let the gateway's group read them" in (await answer.json())["message"]
