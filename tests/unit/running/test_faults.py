"""Whatever ends a measurement crosses the process boundary as one line and becomes the same kind of error again."""

from __future__ import annotations

import pickle

import pytest

from kvbench import errors
from kvbench.errors import BadInput, KvbenchError, OutOfMemory, RunFailed
from kvbench.running.faults import Fault, fault_of, is_out_of_memory

OURS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, KvbenchError)]


def across(error: BaseException) -> KvbenchError:
    """The error as it arrives on the other side of the pipe."""
    fault: Fault = pickle.loads(pickle.dumps(fault_of(error)))
    return fault.error()


class TestAnErrorOfOurs:
    @pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
    def test_arrives_as_what_it_was(self, kind: type[KvbenchError]) -> None:
        arrived = across(kind("model.path=x: no such folder"))
        assert (kind, "model.path=x: no such folder") == (type(arrived), str(arrived))
        assert (2 if issubclass(kind, BadInput) else 1) == arrived.exit_code

    def test_of_an_unknown_kind_is_a_failed_run(self) -> None:
        arrived = Fault("Invented", "something").error()
        assert (RunFailed, "failed", "something") == (type(arrived), arrived.status, str(arrived))

    def test_never_becomes_a_class_from_outside_the_tree(self) -> None:
        assert RunFailed is type(Fault("SystemExit", "0").error())


class OutOfMemoryError(RuntimeError):
    """torch's class, which is known by its name where torch is not imported."""


MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 8.00 EiB"),
    OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee documentation"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    pytest.param(
        RuntimeError("[enforce fail at alloc_cpu.cpp:98] data. DefaultCPUAllocator: not enough memory: you tried"),
    ),
    pytest.param(
        OSError(12, "Cannot allocate memory"),
    ),
]


class TestRunningOutOfMemory:
    @pytest.mark.parametrize("error", MEMORY, ids=lambda error: f"{type(error).__name__} {str(error)[:25]}")
    def test_is_recognised_and_stays_one_line(self, error: BaseException) -> None:
        arrived = across(error)
        assert OutOfMemory is type(arrived)
        assert str(arrived).startswith("the device ran out of memory: ")
        assert "\n" not in str(arrived)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
            ValueError("out of memory"),
            KeyError("memory"),
            OSError(28, "No space left on device"),
        ],
    )
    def test_is_not_read_into_other_errors(self, error: Exception) -> None:
        assert not is_out_of_memory(error)

    def test_of_torch_itself_is_recognised(self) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 60, dtype=torch.uint8)
        assert is_out_of_memory(caught.value)
        assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))


class TestAnyOtherError:
    def test_keeps_its_class_and_its_first_line(self) -> None:
        arrived = across(IndexError("index 5 is out of range\nmore\neven more"))
        assert RunFailed is type(arrived)
        assert "IndexError: index 5 is out of range (traceback in stdout.log)" == str(arrived)

    @pytest.mark.parametrize("message", ["", "  \n ", "\n\n"])
    def test_without_words_says_so(self, message: str) -> None:
        assert "ValueError: no message (traceback in stdout.log)" == str(across(ValueError(message)))

    def test_that_cannot_be_pickled_arrives_all_the_same(self) -> None:
        class Local(Exception):
            def __init__(self) -> None:
                super().__init__("here")
                self.handle = lambda: None

        assert str(across(Local())).startswith("Local: here")
