import io

import pytest
from rich.console import Console

from kvbench.report.console import answer, comparison_table, run_row, runs_table, verdict_panel

from .records import (
    HOSTILE,
    arm,
    comparison,
    failed,
    hostile,
    interrupted,
    interrupted_early,
    invalid,
    one_arm,
    two_arms,
)


def shown(*renderables, width=80, colour=False):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    for renderable in renderables:
        console.print(renderable)
    return file.getvalue()


def flat(text):
    return " ".join(text.split())


def test_a_comparison_shows_figures_speed_up_agreement_and_verdict():
    text = flat(shown(comparison_table(two_arms()), verdict_panel(two_arms()), answer(two_arms())))
    for part in (
        "nocache cached (dynamic)",
        "TTFT 12.5 ms [12.4, 12.6]",
        "0 B (as predicted) 87.5 KiB (as predicted)",
        "FASTER: cached (dynamic) decodes 3.42× [3.38, 3.47] as fast as nocache (95 % interval over 8 blocks).",
        "End to end, prefill included: 2.91× [2.88, 2.95].",
        "Output of cached (dynamic): EQUAL_WITHIN_ROUNDING",
        "Output: same output, up to rounding.",
        "VALID",
        "✓ token_count",
        "! host_load",
    ):
        assert part in text


def test_distances_from_a_wider_type_take_a_line_an_arm():
    known = {"dtype": "float32", "device": "cpu", "steps": 64, "kl": 2e-4, "argmax_flips": 3}
    distances = [
        {"arm": 0, "max_abs_logit_diff": 0.5, "max_rel_logit_diff": 0.013, **known},
        {"arm": 1, "max_abs_logit_diff": None, "max_rel_logit_diff": None, **known, "kl": None},
    ]
    text = flat(shown(comparison_table(two_arms(references=distances))))
    assert (
        "nocache against recompute in float32: 1.3e-02 of the largest logit, KL up to 2.0e-04 nats, the likeliest token"
        " differs 3 times in 64 steps"
    ) in text
    assert "cached (dynamic) against recompute in float32: not known, the logits are not finite numbers" in text
    assert "against recompute" not in flat(shown(comparison_table(two_arms())))


def test_a_cache_of_another_size_than_predicted_shows_both():
    other = arm("cached")
    other["memory"]["kv_cache_predicted_bytes"] = 1024
    text = flat(shown(comparison_table(two_arms(arms=[arm("nocache"), other]))))
    assert "87.5 KiB (predicted 1.00 KiB)" in text


def test_a_single_arm_has_no_comparison():
    text = shown(comparison_table(one_arm()), answer(one_arm()))
    assert "as fast as" not in text
    assert "×" not in text


@pytest.mark.parametrize("record", [invalid(), interrupted()], ids=["invalid", "interrupted"])
def test_a_pair_that_is_not_a_result_is_never_headlined(record):
    text = flat(shown(comparison_table(record), verdict_panel(record), answer(record)))
    assert "as fast as" not in text
    assert "FASTER" not in text
    assert text.index("not a result: ") < text.index("measured all the same")
    assert "\x1b[2mmeasured all the same" in shown(comparison_table(record), colour=True)
    assert "3.42" not in shown(runs_table([run_row(record)]))


def test_a_pair_of_which_nothing_was_measured_is_said_to_be_that():
    nothing = {"value": None, "ci_low": None, "ci_high": None, "level": None, "n_blocks": 0}
    pair = comparison(verdict="INVALID")
    pair |= {name: pair[name] | nothing for name in ("speedup", "end_to_end_speedup")}
    text = flat(shown(comparison_table(two_arms(pair=pair))))
    assert "nothing was measured of cached (dynamic) ÷ nocache" in text
    assert "measured all the same" not in text


def test_a_verdict_of_too_few_blocks_is_not_a_result_even_in_a_valid_run():
    record = two_arms(pair=comparison(verdict="INVALID"))
    text = flat(shown(comparison_table(record), answer(record)))
    assert "as fast as" not in text


def test_failed_checks_come_with_their_advice():
    assert "✗ mode_proof: 3 steps of cached submitted something else → these times" in flat(
        shown(verdict_panel(invalid())).replace("│", "")
    )


def test_a_run_without_figures_says_why():
    text = shown(comparison_table(failed()), verdict_panel(failed()))
    assert "nothing was measured" in text
    assert "OOM" in text
    assert "the device ran out of memory at 4.2 GiB" in text


def test_a_run_stopped_before_its_first_block_shows_no_figures():
    text = flat(shown(comparison_table(interrupted_early()), verdict_panel(interrupted_early())))
    assert "not a result: interrupted: stopped by Ctrl-C" in text
    assert "TTFT, ITL, decode tokens/s" in text
    assert "not known, the record gives no reason" in text


def test_why_a_figure_is_missing_stands_below_the_table():
    assert "peak allocated: not known, torch keeps no allocator statistics on cpu" in shown(
        comparison_table(two_arms())
    )


@pytest.mark.parametrize("colour", [False, True])
def test_nothing_runs_over_eighty_columns_or_loses_a_figure(colour):
    many = two_arms(arms=[arm("nocache"), arm("cached"), arm("cached", cache="static"), arm("generate")])
    records = [two_arms(), one_arm(), invalid(), failed(), interrupted()]
    plain = shown(comparison_table(many), runs_table(list(map(run_row, records))))
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" not in plain
    assert ("\x1b" in shown(runs_table(list(map(run_row, records))), colour=colour)) == colour


def test_one_row_per_run_with_its_speed_up_and_status():
    text = shown(runs_table(list(map(run_row, [two_arms(prompt=4096), one_arm(), failed()]))), width=120)
    first, second, third = (line.split() for line in text.splitlines() if line.startswith(" embedded  "))
    assert first[-7:] == ["4,096", "48", "1", "3.42×", "[3.38,", "3.47]", "VALID"]
    assert second[-2:] == ["—", "VALID"]
    assert third[-1] == "OOM"


def test_text_of_strangers_is_neither_markup_nor_escapes():
    text = shown(comparison_table(hostile()), verdict_panel(hostile()), runs_table([run_row(hostile())]), width=2000)
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\u2066", "\u2028"} & set(text)
    assert "[bold]markup[/bold]" in text
    assert HOSTILE[0] in text


def test_the_last_lines_are_the_answer_whether_the_output_is_the_same_and_how_it_ended():
    """On a terminal of 24 lines the verdict had scrolled away."""
    lines = shown(answer(two_arms())).splitlines()
    assert lines[0].startswith("FASTER: cached (dynamic) decodes 3.42×")
    assert lines[-2:] == ["Output: same output, up to rounding.", "VALID, 1 warning"]
    assert shown(answer(invalid())).splitlines()[-1] == "INVALID, 1 warning"
