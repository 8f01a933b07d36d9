"""A sharded job makes the model that one server makes, bit for bit, whenever its servers die."""

from typing import Any

import pytest

from chiron.wire.attestation import Role
from tests.support.builders import orderly
from tests.support.mortal import LEAD, OTHER, SERVER, MortalWorld, expect_same
from tests.support.roles import Death

SHARDS = 3
ONE, TWO = f"{Role.SHARD}-1", f"{Role.SHARD}-2"
MERGED = "PUT checkpoint-parameter-server"
MERGED_ONE, MERGED_TWO = (f"PUT checkpoint-parameter-server-{index}" for index in (1, 2))


VARIANTS: dict[str, dict[str, Any]] = {
    "mean with outer momentum": {"outer_momentum": 0.9, "outer_learning_rate": 0.7},
    "bfloat16 and the median": {"dtype": "bfloat16", "merge": "median"},
}


@pytest.mark.parametrize("terms", VARIANTS.values(), ids=VARIANTS)
async def test_shards_change_no_bit_and_nor_do_their_deaths(
    world: MortalWorld, terms: dict[str, Any]
) -> None:
    one_server = await world.run(orderly(), terms=terms)
    assert one_server.reports[-1].validation_loss is not None
    deaths = (
        # The trial is published at the first two servers, not kept at the third; and its publisher dies too.
        Death((TWO, LEAD), MERGED_TWO, 1, heard=False),
        # The other servers have merged an exchange that this one has not, and a trainer is lost with it.
        Death((ONE, OTHER), MERGED_ONE, 3, heard=False),
        # This one has merged and told nobody.
        Death((TWO,), MERGED_TWO, 3, heard=True),
        # The shards live on and must take up with the next parameter server, and trainers of either.
        Death((SERVER, OTHER), MERGED, 5, heard=False),
        # All servers at once, some of them ahead.
        Death((ONE, SERVER, TWO), MERGED_ONE, 2, heard=True),
    )
    expect_same(await world.run(orderly(), *deaths, terms=terms | {"shards": SHARDS}), one_server)
