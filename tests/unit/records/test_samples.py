"""What a worker hands over is kept, each kind in its place, and a part is checked where it is made."""

from __future__ import annotations

import math
import pickle
from typing import get_args

import pytest
from pydantic import ValidationError

from kvbench.records.evidence import HostCheck, HostChecks, HostSample, Phase
from kvbench.records.samples import EVERY_ONE, LAST_OF_ITS_KIND, RunSamples, Sample, Watching
from kvbench.records.scaling import Attempted


def test_every_kind_of_sample_has_a_place_but_the_try_that_its_parent_tells_of() -> None:
    assert {Attempted} == set(get_args(Sample)) - LAST_OF_ITS_KIND.keys() - EVERY_ONE.keys()
    assert {*LAST_OF_ITS_KIND.values(), *EVERY_ONE.values()} == vars(RunSamples()).keys()


def test_the_last_check_of_the_host_stands_and_every_phase_is_kept() -> None:
    samples, checks = RunSamples(), HostChecks(before=HostCheck(launch_s=1e-6))
    for message in (checks, Phase(name="blocks", seconds=1.0), Phase(name="audit", seconds=2.0)):
        samples.add(message)
    samples.add(checks.model_copy(update={"after": HostCheck(launch_s=2e-6)}))
    samples.add(Watching(on=True))  # for the parent alone
    assert samples.host_checks is not None
    assert (checks.before, HostCheck(launch_s=2e-6)) == (samples.host_checks.before, samples.host_checks.after)
    assert ["blocks", "audit"] == [phase.name for phase in samples.phases]


def test_what_is_no_number_is_refused_in_the_worker() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Phase(name="blocks", seconds=math.nan)


def test_a_part_crosses_the_pipe_as_it_is() -> None:
    reading = HostSample(elapsed_s=1.0, phase="blocks", process_rss_bytes=5, device_used_bytes=None)
    assert reading == pickle.loads(pickle.dumps(reading))
