import torch
from hypothesis import given
from hypothesis import strategies as st

from rankwise.capture.bits import pack_bits, unpack_bits

shapes = st.lists(st.integers(0, 5), min_size=0, max_size=3)


@given(shape=shapes, seed=st.integers(0, 1000))
def test_what_is_packed_comes_back(shape, seed):
    values = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    unpacked = unpack_bits(pack_bits(values))
    assert unpacked.dtype is torch.bool
    assert unpacked.shape == values.shape
    assert torch.equal(unpacked, values)


def test_eight_values_take_one_byte():
    assert pack_bits(torch.ones(10, 8, dtype=torch.bool)).data.nbytes == 10
    assert pack_bits(torch.ones(9, dtype=torch.bool)).data.nbytes == 2
