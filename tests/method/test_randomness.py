"""Randomness is a function of position."""

from itertools import permutations

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


def meetings(seeds, steps):
    """Streams that begin where another has come to: which of seeds and purposes, and after how many positions."""
    training = ["times", "noise", "label drop", "augmentation", "times of the second view", "noise of the second view"]
    lengths = {(seed, purpose): steps for seed in seeds for purpose in training}
    lengths |= {(seed, purpose): 1 for seed in seeds for purpose in ("weights", "projector")}
    lengths |= {(0, purpose): 50_000 * len(seeds) for purpose in ("sample", "label")}  # of the images of all seeds
    at = {place: generator(*place, 0).initial_seed() for place in lengths}
    apart = {(a, b): (at[b] - at[a]) % 2**32 for a, b in permutations(lengths, 2)}
    return {pair: distance for pair, distance in apart.items() if distance < lengths[pair[0]]}


def test_where_streams_of_different_seeds_meet():
    """What the docstring says: nowhere at the lengths of stored runs, and in one place at the paper's longest."""
    meeting = {((2, "noise"), (0, "sample")): 4_796_065}
    assert meetings(range(10), 1_000_000) == meetings(range(5), 4_796_065) == {}
    assert meetings(range(5), 7_000_000) == meeting
    noise, sample = (torch.randn(3, generator=generator(*at)) for at in ((2, "noise", 4_796_065), (0, "sample", 0)))
    assert torch.equal(noise, sample)
