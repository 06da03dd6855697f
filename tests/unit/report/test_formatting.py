import pytest

from kvbench.records.part import Estimate
from kvbench.report.names import axis_scale, format_estimate, format_exact, format_level
from kvbench.text import UNKNOWN, format_value


def estimate(value, low=None, high=None):
    return Estimate(estimator="median", value=value, ci_low=low, ci_high=high, level=0.95, n=8)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0125, "s", "12.5 ms"),
        (0.0009996, "s", "1.00 ms"),
        (0.00099949, "s", "999 µs"),
        (125.0, "s", "125 s"),
        (3e-10, "s", "300 ps"),
        (4e-13, "s", "400 fs"),
        (0.0, "s", "0 s"),
        (0, "bytes", "0 B"),
        (89600, "bytes", "87.5 KiB"),
        (5_010_000_000, "bytes", "4.67 GiB"),
        (2**20 - 1, "bytes", "1.00 MiB"),
        (1234.5, "tokens/s", "1,234 tok/s"),
        (3.42, "times", "3.42×"),
        (-0.012, "ratio", "-1.20 %"),
        (1500, "count", "1,500"),
        (0.0042, "J/token", "4.20 mJ/token"),
        (None, "s", UNKNOWN),
    ],
)
def test_a_value_has_a_unit_that_fits_and_three_significant_digits(value, unit, shown):
    assert format_value(value, unit) == shown


def test_an_interval_shares_the_unit_of_its_value():
    assert format_estimate(estimate(0.0125, 0.0123, 0.0128), "s") == "12.5 ms [12.3, 12.8]"


def test_bounds_that_differ_by_the_last_bit_alone_are_no_reason_for_more_digits() -> None:
    assert "1.00 ms [1.00, 1.00]" == format_estimate(estimate(0.001, 0.001, 0.0010000000000000002), "s")


def test_a_ratio_s_bound_is_told_so_exactly_that_its_side_of_1_is_seen() -> None:
    assert "1.128× [0.996, 1.276]" == format_estimate(estimate(1.128, 0.9957, 1.276), "times")
    assert "9.90 ms [1.00, 12.00]" == format_estimate(estimate(0.0099, 0.000996, 0.012), "s")


def test_a_figure_without_an_interval_is_shown_without_one():
    assert format_estimate(estimate(0.0125), "s") == "12.5 ms"
    assert format_estimate(estimate(None), "s") == UNKNOWN


def test_bounds_that_differ_are_never_printed_alike():
    assert format_estimate(estimate(1.0, 0.9999, 1.0002), "times") == "1.0000× [0.9999, 1.0002]"


def test_zero_variance_prints_equal_bounds():
    assert format_estimate(estimate(2.0, 2.0, 2.0), "times") == "2.00× [2.00, 2.00]"


def test_a_level_is_never_rounded_up():
    assert [format_level(level) for level in (0.95, 0.99219, 0.99999, None)] == ["95 %", "99.2 %", "99.9 %", UNKNOWN]


def test_an_exact_value_is_the_recorded_one():
    assert format_exact(89600, "bytes") == "89,600 bytes"
    assert format_exact(0.1 + 0.2, "s") == "0.30000000000000004 s"
    assert format_exact(None, "s") == UNKNOWN


def test_an_axis_takes_the_unit_of_its_largest_value():
    assert axis_scale([0.001, 0.0034], "s") == (1e-3, "ms")
    assert axis_scale([], "s") == (1.0, "s")
