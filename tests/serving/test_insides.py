"""What the demo shows of a network's insides: the first convolution's maps, and each pixel's share in the answer."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from support.served import GREEK, card, colour_model, network
from trackdl.serving import ServedImages
from trackdl.serving.insides import MOST_MAPS, features, look_inside


def image(seed: int = 0) -> torch.Tensor:
    pixels = np.zeros((1, 28, 28), dtype=np.float32)
    pixels[0, 4:24, 12:16] = np.random.default_rng(seed).random((20, 4))
    return torch.from_numpy(pixels)


def test_shares_add_up_to_the_difference_that_the_image_makes() -> None:
    served = ServedImages(network(3), card(GREEK))
    found = look_inside(served, image())
    with torch.inference_mode():
        outputs = served.model(served.card.normalise(torch.stack([image(), torch.zeros(1, 28, 28)])))
    best, second = outputs[0].topk(2).indices.tolist()
    difference = outputs[:, best] - outputs[:, second]
    assert found.shares.sum().item() == pytest.approx((difference[0] - difference[1]).item(), rel=0.05, abs=0.01)
    assert found.runner_up == GREEK[second]
    # The paper, which is as the blank image, decides nothing.
    assert not found.shares[image()[0] == 0].any()


def test_maps_are_the_first_convolutions() -> None:
    served = ServedImages(network(3), card(GREEK))
    found = look_inside(served, image())
    model: nn.Module = served.model
    expected = model.conv1(served.card.normalise(image().unsqueeze(0)))[0]
    assert found.maps is not None
    torch.testing.assert_close(found.maps, expected.detach())
    assert found.channels == 10 <= MOST_MAPS
    assert not model.conv1._forward_hooks


def test_colour_has_one_share_for_each_pixel() -> None:
    served = colour_model()
    found = look_inside(served, torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)))
    assert found.shares.shape == (12, 12)
    assert found.maps is not None
    assert len(found.maps) == 4


def test_a_network_without_convolution_has_no_maps() -> None:
    served = ServedImages(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), card(GREEK))
    found = look_inside(served, image())
    assert found.maps is None
    assert found.channels == 0


def test_features_are_those_of_the_inputs_though_another_thread_uses_the_network() -> None:
    class Slow(nn.Module):
        """Waits until another thread has used the network."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if threading.current_thread() is threading.main_thread():
                other = threading.Thread(target=model, args=(others,))
                other.start()
                other.join()
            return inputs

    others = torch.ones(1, 4)
    model = nn.Sequential(Slow(), nn.Linear(4, 2))
    taken, _ = features(model, torch.zeros(1, 4))
    assert taken.tolist() == [[0, 0, 0, 0]]
