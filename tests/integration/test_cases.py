"""The hand-written exchanges of cases/*.txt, byte for byte, in RESP2 and in RESP3."""

import pytest

import casefile

BLOCKS = casefile.all_blocks()


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name,block", BLOCKS, ids=[f"{name[:-4]}-{block.title}" for name, block in BLOCKS])
def test_case(client, shared, name, block, protocol):
    casefile.run(name, block, shared, protocol)
