"""The device is busy while any of its kernels runs, however many do."""

from __future__ import annotations

from kvbench.running.step_work import covered


def test_kernels_that_overlap_are_counted_once() -> None:
    assert 0.0 == covered([])
    assert 3.0 == covered([(0.0, 1.0), (2.0, 4.0)])
    assert 4.0 == covered([(1.0, 4.0), (0.0, 2.0)])
    assert 5.0 == covered([(0.0, 5.0), (1.0, 2.0), (3.0, 4.0)])
