"""What is said of decoding's log-probabilities beside those of one pass over the finished text."""

from __future__ import annotations

from kvbench.arm import arm_names
from kvbench.records.rescoring import Rescore
from kvbench.records.run_record import RunRecord
from kvbench.report.sentences import own_words, say
from kvbench.text import UNKNOWN, printable


def rescore_word(found: Rescore) -> str:
    """The verdict in plain words."""
    return say(f"rescore.{found.verdict or found.differs_by or UNKNOWN}")


def rescore_sentence(found: Rescore, name: str) -> str:
    """The verdict on what `name` decoded, with the figures that people ask for."""
    if found.error is None:
        return say("rescore.unknown", name=name, word=rescore_word(found), reason=own_words(printable(found.detail)))
    return say(
        "rescore.arm",
        name=name,
        word=rescore_word(found),
        mean=_small(found.mean_abs_difference),
        noise=_small(found.noise_mean_abs),
        k1=_small(found.k1),
        k3=_small(found.k3),
        share=UNKNOWN if found.share_over is None else f"{found.share_over:.2%}",
        positions=f"{found.positions:,}",
        drift=_drift(found),
    )


def rescore_sentences(record: RunRecord) -> tuple[str, ...]:
    """One for each arm that was scored again."""
    names = arm_names(record.arms)
    return tuple(rescore_sentence(each, names[each.arm]) for each in record.rescores)


def rescore_details(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """Each arm's name and the sentence that its verdict rests on."""
    names = arm_names(record.arms)
    return tuple((names[each.arm], own_words(printable(each.detail))) for each in record.rescores)


def _drift(found: Rescore) -> str:
    if found.drift_per_1000 is None or found.drift_low is None or found.drift_high is None:
        return say("rescore.drift.unknown")
    code = "rescore.drift.grows" if found.drift_low > 0 else "rescore.drift.shrinks"
    if found.drift_low <= 0 <= found.drift_high:
        code = "rescore.drift.none"
    if found.verdict in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"):  # surer tokens move less, wherever they stand
        code = "rescore.drift.rounding"
    interval = f"[{found.drift_low:.1e}, {found.drift_high:.1e}]"
    return say(code, slope=_small(abs(found.drift_per_1000)), interval=interval)


def _small(value: float | None) -> str:
    return UNKNOWN if value is None else "0" if value == 0 else f"{value:.1e}" if abs(value) < 0.01 else f"{value:.3g}"
