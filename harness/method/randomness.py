"""Randomness as a function of position: what is drawn depends on where one is, never on what was drawn before."""

import hashlib

import torch


def generator(seed: int, purpose: str, position: int) -> torch.Generator:
    """A CPU generator for the place (seed, purpose, position), for instance (0, "noise", training step 17).

    The same place always gives the same numbers, on any machine, after any restart, in any order of calls; different
    purposes never share a stream on purpose. (torch's CPU generator keeps 32 bits of its seed, so that two of n places
    coincide with probability about n²/2³³: about one in four for two of 50,000 images to start from the same noise.)
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
