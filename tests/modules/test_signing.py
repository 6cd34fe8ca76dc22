"""Envelopes and keys: what is accepted, and that a refusal says whose signature is missing."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from modules import signing
from modules.errors import BadSettings, Invalid, Untrusted
from modules.signing import (
    ORDER_TYPE,
    REPORT_TYPE,
    decode_keys,
    encode_keys,
    key_from_pem,
    opened,
    sign,
    signer_from_pem,
    verify,
)
from tests.doubles.keys import device_pem, signer

LIMIT = 64 * 1024
ONE, TWO = signer(), signer()


def envelope(payload=b"{}", signers=(ONE,)):
    return sign(payload, payload_type=ORDER_TYPE, signers=signers)


def checked(data, keys=(ONE.public_key,), **options):
    return verify(data, **({"payload_type": ORDER_TYPE, "keys": keys, "limit": LIMIT} | options))


class TestEnvelope:
    @given(payload=st.binary(max_size=2000), signers=st.sampled_from([(ONE,), (TWO,), (ONE, TWO)]))
    @settings(max_examples=40, deadline=None)
    def test_round_trip(self, payload, signers):
        """What was signed comes back byte for byte, whoever of the known keys signed."""
        keys = [ONE.public_key, TWO.public_key]
        assert checked(envelope(payload, signers), keys, threshold=len(signers)) == payload

    def test_is_the_standard_form(self):
        """Another DSSE implementation reads and verifies what we write."""
        read = Envelope.from_dict(json.loads(envelope(b"payload")))

        assert read.payload == b"payload"
        assert list(read.verify([ONE.public_key], 1)) == [ONE.public_key.keyid]

    def test_p256_device_key(self):
        """A device signs with the P-256 key of its certificate, and its public key alone verifies it."""
        private, public = device_pem()
        data = sign(b"report", payload_type=REPORT_TYPE, signers=[signer_from_pem(private)])

        assert checked(data, [key_from_pem(public)], payload_type=REPORT_TYPE) == b"report"

    def test_two_signatures(self):
        """With a threshold of two, two different keys must have signed, and both do."""
        keys = [ONE.public_key, TWO.public_key]
        assert checked(envelope(signers=(ONE, TWO)), keys, threshold=2) == b"{}"
        with pytest.raises(Untrusted, match="1 of 2 signatures hold"):
            checked(envelope(signers=(ONE,)), keys, threshold=2)

    def test_one_good_signature_of_two(self):
        """A foreign signature beside a good one does no harm."""
        assert checked(envelope(signers=(TWO, ONE))) == b"{}"

    def test_same_key_under_two_ids(self):
        """One key that is listed under two ids counts once, so it cannot reach a threshold of two alone."""
        alias = type(ONE.public_key)("alias", "ed25519", "ed25519", ONE.public_key.keyval)
        document = json.loads(envelope())
        document["signatures"].append(document["signatures"][0] | {"keyid": "alias"})

        with pytest.raises(Untrusted):
            checked(json.dumps(document).encode(), [ONE.public_key, alias], threshold=2)

    def test_report_is_no_order(self):
        """A genuine report is never taken for an order, even if the same key may sign both."""
        report = sign(b"{}", payload_type=REPORT_TYPE, signers=[ONE])
        with pytest.raises(Untrusted, match="payload type"):
            checked(report)

    def test_relabelled_report(self):
        """Writing another payload type over a report breaks its signature."""
        report = json.loads(sign(b"{}", payload_type=REPORT_TYPE, signers=[ONE]))
        with pytest.raises(Untrusted, match="0 of 1 signatures hold"):
            checked(json.dumps(report | {"payloadType": ORDER_TYPE}).encode())

    def test_refusal_names_the_keys(self):
        """The refusal names who signed and who would have had to."""
        with pytest.raises(Untrusted) as refused:
            checked(envelope(signers=(TWO,)))

        assert TWO.public_key.keyid[:12] in str(refused.value)
        assert ONE.public_key.keyid[:12] in str(refused.value)

    @pytest.mark.parametrize("position", [0, 10, -1])
    def test_changed_payload(self, position):
        """A payload with one changed byte is refused."""
        payload = bytearray(b"a payload of some length")
        document = json.loads(envelope(bytes(payload)))
        payload[position] ^= 1
        with pytest.raises(Untrusted):
            checked(json.dumps(document | {"payload": base64.b64encode(payload).decode()}).encode())

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="when it is empty"),
            pytest.param(b"\xff\xfe", id="when it is not text"),
            pytest.param(b"[]", id="when it is a list"),
            pytest.param(b"{}", id="when it has no fields"),
            pytest.param(b"[" * 50_000, id="when it is nested without end"),
            pytest.param(b'{"payload":"!","payloadType":"x","signatures":[]}', id="when the payload is no base64"),
        ],
    )
    def test_no_envelope(self, data):
        """Anything that is no envelope is refused as such, and nothing else is raised."""
        with pytest.raises(Invalid):
            checked(data)

    def test_fields_of_a_newer_signer(self):
        """What stands in an envelope beside payload and signatures is skipped: it is not signed and decides nothing."""
        document = json.loads(envelope())
        document["more"] = [1]
        document["signatures"][0]["more"] = {}

        assert checked(json.dumps(document).encode()) == b"{}"

    def test_key_id_twice(self):
        """Two signatures under one key id are refused, whichever is good."""
        document = json.loads(envelope())
        document["signatures"] *= 2
        with pytest.raises(Invalid, match="twice"):
            checked(json.dumps(document).encode())

    def test_nobody_signed(self):
        """An envelope without a signature is refused."""
        with pytest.raises(Untrusted, match="signed by nobody"):
            checked(envelope(signers=()))

    def test_size_first(self):
        """The size is checked before the first byte is parsed."""
        with pytest.raises(Invalid, match="bytes is more than"):
            checked(b"not even JSON" * 1000, limit=10)

    def test_payload_of_just_its_limit(self):
        """A payload of just its limit passes with all the signatures that may stand there; one byte more does not."""
        with pytest.raises(Invalid, match="1001 bytes is more than the 1000 allowed"):
            checked(envelope(b"x" * 1001), limit=1000)
        assert checked(envelope(b"x" * 1000, (ONE, TWO)), limit=1000) == b"x" * 1000

    def test_says_who_signed(self):
        """Who reads an envelope learns which of the trusted keys signed it, and never of others."""
        signed = opened(envelope(signers=(ONE, TWO)), payload_type=ORDER_TYPE, keys=[ONE.public_key], limit=LIMIT)

        assert signed == (b"{}", {ONE.public_key.keyid})

    def test_bounds_the_signatures(self):
        """More signatures than anybody needs are refused before one of them is checked."""
        document = json.loads(envelope())
        first = document["signatures"][0]
        document["signatures"] = [first | {"keyid": f"{number:064x}"} for number in range(17)]
        with pytest.raises(Invalid, match="length <= 16"):
            checked(json.dumps(document).encode())


class TestKeys:
    def test_key_list_round_trip(self):
        """A list of public keys reads back as keys that verify."""
        read = decode_keys(encode_keys([ONE.public_key, TWO.public_key]))

        assert checked(envelope(signers=(TWO,)), read.values()) == b"{}"
        assert set(read) == {ONE.public_key.keyid, TWO.public_key.keyid}

    @pytest.mark.parametrize("entry", [{}, {"keytype": "x", "scheme": "y", "keyval": {"public": "z"}}])
    def test_bad_key_list(self, entry):
        """A key that cannot be read makes the list invalid."""
        data = json.dumps({"format": "edgefleet.keys/1", "keys": {"id": entry}}).encode()
        with pytest.raises(Invalid, match="key list"):
            decode_keys(data)

    def test_bounds_the_keys(self):
        """A longer list of keys than any fleet has is refused before one of them is read."""
        one = {"keytype": "x", "scheme": "y", "keyval": {}}
        keys = {f"{number:064x}": one for number in range(65)}
        with pytest.raises(Invalid, match="length <= 64"):
            decode_keys(json.dumps({"format": "edgefleet.keys/1", "keys": keys}).encode())

    def test_other_curve(self):
        """A key on another curve is refused, private and public."""
        private = generate_ec(SECP384R1())
        with pytest.raises(Invalid, match=r"press-4.*P-256"):
            key_from_pem(
                private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), element="press-4"
            )
        with pytest.raises(BadSettings):
            signer_from_pem(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def test_no_key(self):
        """Text that is no key is refused with the name of what it was meant to be."""
        with pytest.raises(Invalid, match="device certificate"):
            key_from_pem(b"hello", element="device certificate")
        with pytest.raises(BadSettings, match="not a private key"):
            signer_from_pem(b"hello")

    def test_passphrase(self):
        """A missing, wrong or needless passphrase is told apart as far as that is possible."""
        private, _ = device_pem()
        locked = load_pem_private_key(private, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
        )
        assert signer_from_pem(locked, passphrase="open sesame").public_key == signer_from_pem(private).public_key
        with pytest.raises(BadSettings, match="is encrypted"):
            signer_from_pem(locked)
        with pytest.raises(BadSettings, match="passphrase is wrong"):
            signer_from_pem(locked, passphrase="open barley")
        with pytest.raises(BadSettings, match="is not encrypted"):
            signer_from_pem(private, passphrase="open sesame")

    def test_payload_types_differ(self):
        """No two kinds of document share a payload type."""
        kinds = {signing.ORDER_TYPE, signing.REPORT_TYPE, signing.FACTS_TYPE, signing.COMMAND_TYPE}
        assert len(kinds) == 4
