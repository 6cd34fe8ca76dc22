"""A sealed secret opens on its device, in its place, and nowhere else."""

import pytest

from modules.errors import Invalid, Untrusted
from modules.protocol.order import MAX_SEALED
from modules.sealing import KEY_BYTES, LONGEST, OVERHEAD, new_key, open_sealed, public_half, seal

KEY = new_key()
PLACE = {"device": "dev-a", "slot": "camera", "name": "token", "version": 3}
SECRET = b"s3cret-of-the-plant"


def test_it_opens_on_its_device_and_in_its_place():
    """What comes out is what went in, of one byte and of the most; and that fits into an order."""
    for secret in (b"s", SECRET, b"x" * LONGEST):
        sealed = seal(secret, public_half(KEY), **PLACE)
        assert len(sealed) == len(secret) + OVERHEAD
        assert open_sealed(sealed, KEY, **PLACE) == secret
    assert SECRET not in seal(SECRET, public_half(KEY), **PLACE)
    assert LONGEST + OVERHEAD <= MAX_SEALED
    assert len(KEY) == len(public_half(KEY)) == KEY_BYTES


def test_the_same_secret_is_never_sealed_to_the_same_bytes():
    """Nobody sees that two devices, or two versions, have the same."""
    assert seal(SECRET, public_half(KEY), **PLACE) != seal(SECRET, public_half(KEY), **PLACE)


@pytest.mark.parametrize(
    "other", [{"device": "dev-b"}, {"slot": "door"}, {"name": "other"}, {"version": 2}], ids=lambda it: next(iter(it))
)
def test_sealed_bytes_that_are_moved_do_not_open(other):
    """To another device, slot or name, or back to an older version."""
    sealed = seal(SECRET, public_half(KEY), **PLACE)
    with pytest.raises(Untrusted, match="not sealed to this device"):
        open_sealed(sealed, KEY, **PLACE | other)


@pytest.mark.parametrize("at", [0, OVERHEAD, -1])
def test_a_changed_byte_or_another_key_opens_nothing(at):
    """Of the encapsulated key, of the ciphertext, of its tag; or all of it is cut."""
    sealed = bytearray(seal(SECRET, public_half(KEY), **PLACE))
    with pytest.raises(Untrusted):
        open_sealed(bytes(sealed), new_key(), **PLACE)
    with pytest.raises(Untrusted):
        open_sealed(bytes(sealed[: OVERHEAD // 2]), KEY, **PLACE)
    sealed[at] ^= 1
    with pytest.raises(Untrusted):
        open_sealed(bytes(sealed), KEY, **PLACE)


@pytest.mark.parametrize("key", [b"", b"x", bytes(32)], ids=["none", "short", "of low order"])
def test_a_key_that_is_none_is_refused(key):
    """Whatever a device says in its facts."""
    with pytest.raises(Invalid, match="key for secrets"):
        seal(SECRET, key, **PLACE)


@pytest.mark.parametrize("secret", [b"", b"x" * (LONGEST + 1)], ids=["empty", "too long"])
def test_an_empty_or_too_long_secret_is_refused_without_a_word_of_it(secret):
    """The message says how many bytes, and none of them."""
    with pytest.raises(Invalid, match=f"this one {len(secret)}") as caught:
        seal(secret, public_half(KEY), **PLACE)
    assert "xxx" not in str(caught.value)
