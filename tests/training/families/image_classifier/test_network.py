"""The network's first layer, shapes and start, against linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from training.families.image_classifier.network import Block, ConvNet, widths_for
from training.families.image_classifier.trainer import Logits
from training.networks.pictures import pixels


def test_the_first_layer_makes_patches_white() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(200, 3, 8, 8, generator=generator)
    x = F.avg_pool2d(x, 3, stride=1, padding=1)  # neighbours that resemble each other, as in photos
    network = ConvNet(channels=3, classes=2, widths=(8,))
    network.whiten_from(x, epsilon=0.0)
    assert network.whiten.bias is not None
    out = F.conv2d(x, network.whiten.weight)[:, :12].transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(out), torch.eye(12), atol=2e-3)
    assert torch.equal(network.whiten.weight[:12], -network.whiten.weight[12:])


@pytest.mark.parametrize(("side", "stages"), [(16, 2), (28, 3), (32, 3), (64, 4), (96, 4), (128, 5), (8, 1)])
def test_stages_halve_the_picture_until_three_to_five_pixels_are_left(side: int, stages: int) -> None:
    widths = widths_for(side, side, base=(4, 8))
    assert len(widths) == stages
    network = ConvNet(channels=3, classes=5, widths=widths)
    x = torch.rand(2, 3, side, side)
    left = network.blocks(F.gelu(network.whiten(x))).shape[-1]
    assert 3 <= left <= 5
    assert network(x).shape == (2, 5)


def test_a_block_begins_by_passing_its_input_on() -> None:
    block = Block(2, 2)
    x = torch.randn(1, 2, 4, 4)
    assert torch.allclose(block.conv2(block.conv1(x)), x, atol=1e-6)


def test_two_views_make_mirrored_pictures_equal() -> None:
    network = ConvNet(channels=3, classes=4, widths=(4,)).eval()
    image = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    both = Logits(network, mirror=True)
    assert torch.allclose(both(image), both(image.flip(2)), atol=1e-6)
    assert torch.equal(Logits(network, mirror=False)(image), network(pixels(image)))
