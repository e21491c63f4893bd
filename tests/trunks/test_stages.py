"""Where attention starts."""

import pytest

from residual_attention.trunks.chain import Link
from residual_attention.trunks.stages import layout_of


@pytest.mark.parametrize(
    ("image_size", "sizes", "expected"),
    [
        (224, (112, 56, 28, 14, 7), [56, 28, 14, 7]),  # ImageNet: a quarter of the image's side
        (224, (112, 28, 14), [28, 14]),
        (32, (32, 16, 8), [16, 8]),  # CIFAR: no mask as large as the image
        (64, (64, 32, 16), [16]),
        (28, (28, 14, 7), [14, 7]),
    ],
)
def test_attention_starts_at_a_quarter_of_the_side_or_at_16_px(image_size, sizes, expected):
    links = [
        Link(path=f"{size}.{i}", chs=8, size=size, branching=True, is_block=True, has_convolution=True, has_many=False)
        for size in sizes
        for i in range(2)
    ]
    assert [stage.size for stage in layout_of(links, image_size).with_attention] == expected
