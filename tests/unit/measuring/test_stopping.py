"""A stopping rule ends a run for the reason that was declared, and no other."""

from __future__ import annotations

from kvbench.config.schema import MeasureConfig
from kvbench.measuring.stopping import Budget, Fixed, Precision, stopping_rule


def blocks(*ratios: float) -> list[list[float]]:
    return [[ratio, 1.0] for ratio in ratios]


class TestFixed:
    def test_stops_at_its_count_and_not_before(self) -> None:
        assert Fixed(3).reason_to_stop(blocks(1, 1), 1e9) is None
        assert Fixed(3).reason_to_stop(blocks(1, 1, 1), 0.0) == "3 blocks measured"


class TestBudget:
    def test_measures_its_least_blocks_even_when_the_time_is_up(self) -> None:
        assert Budget(3, 10.0).reason_to_stop(blocks(1, 1), 11.0) is None
        assert Budget(3, 10.0).reason_to_stop(blocks(1, 1, 1), 11.0) == "budget of 10 s used, 3 blocks measured"

    def test_goes_on_while_there_is_time(self) -> None:
        assert Budget(1, 10.0).reason_to_stop(blocks(1, 1), 9.9) is None


class TestPrecision:
    rule = Precision(blocks=3, half_width=0.01, max_blocks=6, budget_s=100.0)

    def test_stops_when_the_interval_is_narrow(self) -> None:
        reason = self.rule.reason_to_stop(blocks(2.0, 2.001, 1.999), 1.0)
        assert reason == "speed-up known within 1.00% after 3 blocks"

    def test_does_not_look_before_its_least_blocks(self) -> None:
        assert self.rule.reason_to_stop(blocks(2.0, 2.0), 1.0) is None

    def test_names_the_cap_that_ended_it(self) -> None:
        wide = (1.0, 2.0, 3.0, 1.0, 2.0, 3.0)
        assert self.rule.reason_to_stop(blocks(*wide[:5]), 1.0) is None
        assert str(self.rule.reason_to_stop(blocks(*wide), 1.0)).startswith("cap: 6 blocks")
        assert str(self.rule.reason_to_stop(blocks(*wide[:4]), 100.0)).startswith("cap: 100 s")


def test_the_configuration_chooses_the_rule() -> None:
    assert Fixed(8) == stopping_rule(MeasureConfig())
    assert Budget(4, 5.0) == stopping_rule(MeasureConfig(blocks=4, stopping="budget", budget_s=5.0))
    assert Precision(8, 0.02, 64, 60.0) == stopping_rule(MeasureConfig(stopping="precision", precision=0.02))
