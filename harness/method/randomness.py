"""Randomness as a function of position: what is drawn depends on where one is, never on what was drawn before."""

import hashlib

import torch


def generator(seed: int, purpose: str, position: int) -> torch.Generator:
    """A CPU generator for the place (seed, purpose, position), for instance (0, "noise", training step 17).

    The same place always gives the same numbers, on any machine, after any restart, in any order of calls; different
    purposes have streams of their own. torch's CPU generator keeps 32 bits of its seed, so positions count on from
    where the purpose's hash points: no two positions of one purpose share a stream.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed((int.from_bytes(digest, "big") + position) % 2**32)
