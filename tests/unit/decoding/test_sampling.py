"""What is greedy, and that it is the same for the loops and for generate."""

from __future__ import annotations

import pytest
import torch

from kvbench.config.schema import SamplingConfig
from kvbench.decoding.sampling import Sampler, generate_arguments

GREEDY = [
    SamplingConfig(),
    SamplingConfig(temperature=9e-6),
    SamplingConfig(temperature=0.7, top_p=0.0),
    SamplingConfig(temperature=0.7, top_p=9e-9),
]
DRAWN = [SamplingConfig(temperature=1e-5), SamplingConfig(temperature=1.0, top_p=1e-8), SamplingConfig(temperature=0.7)]


@pytest.mark.parametrize("sampling", GREEDY, ids=str)
def test_a_temperature_below_1e_5_or_a_top_p_below_1e_8_takes_the_likeliest(sampling: SamplingConfig) -> None:
    logits = torch.tensor([[0.0, 1e-3, 0.0], [2.0, 1.0, 1.999]])
    for seed in range(20):
        torch.manual_seed(seed)
        assert [1, 0] == Sampler(sampling).choose(torch.zeros(2, 1, dtype=torch.long), logits).tolist()
    assert generate_arguments(sampling)["do_sample"] is False


@pytest.mark.parametrize("sampling", DRAWN, ids=str)
def test_from_there_on_it_draws(sampling: SamplingConfig) -> None:
    assert generate_arguments(sampling)["do_sample"] is True
    assert (sampling.temperature, sampling.top_p) == (
        generate_arguments(sampling)["temperature"],
        generate_arguments(sampling)["top_p"],
    )


def test_a_draw_follows_the_filtered_distribution() -> None:
    # 0.6, 0.3 and 0.1: top-p 0.8 keeps the first two
    logits = torch.tensor([[0.6, 0.3, 0.1]]).log().repeat(4000, 1)
    torch.manual_seed(0)
    drawn = Sampler(SamplingConfig(temperature=1.0, top_p=0.8)).choose(torch.zeros(4000, 1, dtype=torch.long), logits)
    counts = torch.bincount(drawn, minlength=3)
    assert counts[2] == 0
    assert float(counts[0]) / 4000 == pytest.approx(2 / 3, abs=0.03)
