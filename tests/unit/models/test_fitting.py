"""What is predicted not to fit is refused before anything is allocated."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch

from kvbench.errors import Infeasible
from kvbench.models import devices
from kvbench.models.devices import GIB, check_fit, free_bytes

CPU = torch.device("cpu")


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host with some bytes available, perhaps inside a container with a limit."""

    def describe(available, limit=None, used=0, page_cache=0):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
        monkeypatch.setattr(devices, "CGROUP", tmp_path)
        if limit is not None:
            (tmp_path / "memory.max").write_text(f"{limit}\n")
            (tmp_path / "memory.current").write_text(f"{used}\n")
            (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {page_cache}\nactive_file 7\n")

    return describe


def test_what_fits_exactly_passes():
    check_fit(100, 100, "the weights", "cpu")


def test_one_byte_too_many_is_infeasible_and_the_sentence_gives_both_figures():
    with pytest.raises(Infeasible, match=r"the weights: 2\.00 GiB needed, 1\.50 GiB free on cuda:0;"):
        check_fit(2 * GIB, 3 * GIB // 2, "the weights", "cuda:0")


def test_the_host_offers_what_is_available(host):
    host(available=1000)
    assert free_bytes(CPU) == 1000


def test_a_container_offers_what_its_limit_leaves(host):
    host(available=1000, limit=700, used=500, page_cache=100)
    assert free_bytes(CPU) == 300


def test_a_container_without_a_limit_offers_what_the_host_has(host):
    host(available=1000, limit="max")
    assert free_bytes(CPU) == 1000


def test_a_gpu_offers_its_free_memory_and_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_bytes(torch.device("cuda", 0)) == 1100
