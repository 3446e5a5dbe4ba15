"""Randomness is a function of position."""

import torch

from harness.method.randomness import generator


def test_generators_are_functions_of_their_position():
    def numbers(*place):
        return torch.rand(4, generator=generator(*place)).tolist()

    assert numbers(0, "noise", 1) == numbers(0, "noise", 1)
    places = [(0, "noise", 1), (1, "noise", 1), (0, "times", 1), (0, "noise", 2), (0, "noise", 11), (1, "noise", 0)]
    assert len({tuple(numbers(*place)) for place in places}) == len(places)
    assert (
        generator(0, "noise", 1).initial_seed() == 2459348363
    )  # by b2sum -l 32, plus the position; stored runs depend on it


def test_no_two_positions_of_a_purpose_share_a_stream():
    seeds = {generator(0, "sample", image).initial_seed() for image in range(50_000)}
    assert len(seeds) == 50_000
