from kvbench.report.metrics import BY_KEY, METRICS, unknown
from kvbench.report.names import NOT_GIVEN, null_reason

from .records import two_arms


def test_every_metric_reads_every_arm():
    for arm in two_arms().arms:
        assert all(isinstance(metric.show(arm), str) for metric in METRICS)


def test_keys_are_unique_and_every_row_says_how_it_is_computed():
    assert len(BY_KEY) == len(METRICS)
    assert all(metric.computed.endswith(".") for metric in METRICS)


def test_the_pointer_of_an_unknown_figure_finds_its_reason():
    record = two_arms()
    metric = BY_KEY["joules_per_token"]
    assert unknown(metric, record.arms[1])
    assert null_reason(record, metric.pointer(1)) == "energy needs a window of seconds of its own"


def test_a_reason_for_a_value_or_for_the_whole_part_counts_as_well():
    record = two_arms(null_reasons={"/arms/0/ttft_s/value": "no block", "/arms/0/energy": "no counter"})
    assert null_reason(record, "/arms/0/ttft_s") == "no block"
    assert null_reason(record, "/arms/0/energy/idle_watts") == "no counter"
    assert null_reason(record, "/arms/1/energy/idle_watts") == NOT_GIVEN
