"""What doctor says first: what can be measured here, or what has to be mended."""

from __future__ import annotations

from kvbench.commands.doctor import Finding, _summary


def test_a_healthy_machine_is_told_what_it_can_run() -> None:
    """It once began with ten crosses for things that nobody had asked for."""
    found = [
        Finding("torch", True, "2.13.0", needed=True),
        Finding("cuda", False, "torch sees no GPU; runs use the CPU", "install a torch build with CUDA"),
        Finding("torch.compile", True, "C++ compiler g++", gives="engine=compiled"),
        Finding("hqq", False, "not installed: cache=hqq_int8", "pip install hqq", gives="cache=hqq_int8"),
    ]
    said = _summary(found)
    assert said == "You can run `python -m kvbench` here, with every mode on the CPU. Also: engine=compiled."


def test_what_is_needed_and_does_not_work_comes_first_with_its_remedy() -> None:
    found = [Finding("torch", False, "not installed", "pip install torch", needed=True)]
    assert _summary(found) == "Mend first: torch: not installed (pip install torch)."
