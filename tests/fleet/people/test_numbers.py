"""Numbers in paths and queries that no row has, on either database."""

import pytest

LARGEST = [10**9 - 1, 10**9, 2**31 - 1, 2**31, 2**53, 10**18 - 1]


@pytest.mark.parametrize("number", LARGEST)
async def test_a_number_larger_than_a_row_has_is_no_failure_of_the_server(house, number):
    """Of rollouts and bundles: whoever asks for one gets 404, and a page from there is the first page, or refused."""
    for path in (f"/api/v1/rollouts/{number}", f"/api/v1/rollouts/{number}/devices"):
        assert (await house.ask("GET", path)).status_code == 404
    assert (await house.ask("DELETE", f"/api/v1/joins/{number}")).status_code == 404
    for path in ("rollouts", "commands", "audit"):
        assert (await house.ask("GET", f"/api/v1/{path}", params={"before": number})).status_code in {200, 422}
