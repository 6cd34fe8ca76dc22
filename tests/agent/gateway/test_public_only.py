"""Which addresses a fallback's name may lead to."""

import pytest

from agent.gateway.public_only import PublicOnly, is_public


class Names:
    """A resolver that knows these addresses of every name."""

    def __init__(self, *addresses):
        self._found = [{"host": one} for one in addresses]

    async def resolve(self, host, port=0, family=0):
        return self._found


@pytest.mark.parametrize(("address", "public"), [("64:ff9b::808:808", True), ("64:ff9b::a00:1", False)])
def test_an_address_that_stands_for_another_is_as_that(address, public):
    """As in networks without IPv4, where every address of it is written so."""
    assert is_public(address) is public


async def test_one_address_that_is_not_public_is_one_too_many():
    """Whichever place it has among those of its name: the connection may go to any of them."""
    resolver = PublicOnly(())
    resolver._inner = Names("8.8.8.8", "2600::1")
    assert len(await resolver.resolve("models.example")) == 2
    resolver._inner = Names("8.8.8.8", "10.0.0.1")
    with pytest.raises(OSError, match=r"10\.0\.0\.1, which is not a public address"):
        await resolver.resolve("models.example")
