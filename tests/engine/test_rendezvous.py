"""Processes of several nodes meet at one host's port where all of them reach it, and else at the file."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from harness.engine import rendezvous
from harness.engine.rendezvous import meet_over_network
from harness.process_group import ProcessPlace, file_url


def meet(folder, host: str) -> list[type[dist.Store]]:
    """Let three processes meet, each a thread here, and return the kinds of the stores by which each hears the last."""
    places = [ProcessPlace(rank, 3, rank, file_url(folder / "rendezvous"), several_nodes=True) for rank in range(3)]

    def member(place: ProcessPlace) -> type[dist.Store]:
        store = meet_over_network(place, host)
        if place.rank == 2:
            store.set("word", "heard")
        assert store.get("word") == b"heard"
        store.set(f"left/{place.rank}", "")
        store.wait([f"left/{rank}" for rank in range(3)])  # the one that listens stays until all have heard
        return type(store)

    with ThreadPoolExecutor(3) as threads:
        return list(threads.map(member, places))


def test_processes_meet_at_the_leading_ones_host(tmp_path):
    assert meet(tmp_path, "127.0.0.1") == [dist.TCPStore] * 3


def test_where_a_host_has_no_address_they_meet_at_the_file(tmp_path):
    assert meet(tmp_path, "nowhere.invalid") == [dist.PrefixStore] * 3


def test_what_one_of_them_cannot_reach_none_of_them_uses(tmp_path, monkeypatch):
    def reach(place, files, before=rendezvous._reach):
        return None if place.rank == 2 else before(place, files)

    monkeypatch.setattr(rendezvous, "_reach", reach)
    assert meet(tmp_path, "127.0.0.1") == [dist.PrefixStore] * 3


def test_who_does_not_come_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "TO_COME", rendezvous.timedelta(seconds=0.2))
    place = ProcessPlace(1, 2, 1, file_url(tmp_path / "rendezvous"), several_nodes=True)
    with pytest.raises(RuntimeError, match="address"):
        meet_over_network(place)
