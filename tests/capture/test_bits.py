import torch
from hypothesis import given
from hypothesis import strategies as st

from rankwise.capture.bits import pack_bits, unpack_bits

shapes = st.lists(st.integers(0, 5), min_size=0, max_size=3)


@given(shapes=st.lists(shapes, min_size=1, max_size=3), seed=st.integers(0, 1000))
def test_what_is_packed_comes_back(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.rand(shape, generator=generator) > 0.5 for shape in shapes]
    unpacked = unpack_bits([pack_bits(values) for values in layers])
    for mine, values in zip(unpacked, layers, strict=True):
        assert mine.dtype is torch.bool
        assert mine.shape == values.shape
        assert torch.equal(mine, values)


def test_layers_on_several_devices_come_back_where_they_were():
    values = torch.rand(3, 5) > 0.5
    here, there = unpack_bits([pack_bits(values), pack_bits(values.to("meta"))])
    assert torch.equal(here, values)
    assert (there.device.type, there.shape) == ("meta", values.shape)


def test_eight_values_take_one_byte():
    assert pack_bits(torch.ones(10, 8, dtype=torch.bool)).data.nbytes == 10
    assert pack_bits(torch.ones(9, dtype=torch.bool)).data.nbytes == 2
