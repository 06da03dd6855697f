"""On a GPU a sweep's points do not depend on their order: A, B, A, and the second A is no slower than the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

ORDER = Path(__file__).parents[1] / "benchmarks" / "order.py"


def test_the_first_point_measured_again_is_no_slower_in_any_engine():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    made = subprocess.run([sys.executable, str(ORDER), "--fresh"], capture_output=True, text=True, check=False)
    assert (0, 8) == (made.returncode, made.stdout.count("ITL")), made.stdout + made.stderr


def test_the_profiler_s_hooks_are_gone_when_they_are_said_to_be():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from kvbench.measuring.probes import launch_rounds_s
    from kvbench.running.worker_state import device_profile, remove_hooks

    device = torch.device("cuda", 0)
    before_s, events = min(launch_rounds_s(device)), []
    for _ in range(3):  # one run profiles several times in a row, and the next run does so again
        for _ in range(2):
            profile = device_profile(device)
            profile.start()
            torch.zeros(8, device=device).add_(1.0)
            torch.cuda.synchronize(device)
            profile.stop()
            events.append(sum(event.device_type.name != "CPU" for event in profile.events()))
        assert remove_hooks() is None
    assert all(events), events
    assert min(launch_rounds_s(device)) < 1.3 * before_s
