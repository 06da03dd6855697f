"""Whether token confidence tells wrong answers from right ones: sums on the embedded model, as an AUROC.

    PYTHONPATH=. python tests/benchmarks/confidence_auroc.py [--seed N] [--results DIR]

The score of a sum is the lowest probability that the model gave to a token
of its answer, the end of the answer included; the AUROC is the chance that a wrong answer has a lower score than a
right one (ties count a half).

The model adds two and three digits nearly without fault, was never shown any other length and gets every sum of another
length wrong, so over a mixture (of sums that it never saw) the score may merely tell strange lengths from known ones.
Therefore the figure within one shape stands beside it: over the held-out sums, and over any, most of them trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import mannwhitneyu, norm

from kvbench.__main__ import main as kvbench
from kvbench.records.step_table import lane_rows
from kvbench.records.store import find_runs, read_steps
from tools.embedded_model.sums import SHAPES as TRAINED
from tools.embedded_model.sums import is_held_out, summands

Pair = tuple[int, int]

# Digits of the summands -> sums of the mixture: as many of the shapes that the model learned as of those it did not.
MIXTURE = {
    **dict.fromkeys(TRAINED, 200),
    **dict.fromkeys([(1, 2), (2, 1), (1, 3), (3, 1)], 100),
    **dict.fromkeys([(2, 4), (4, 2), (3, 4), (4, 3)], 50),
    (4, 4): 200,
}
# And within single shapes, at most so many: held-out sums, and any, those of the training included. Of the shapes that
# the model learned, three and two digits are the ones that it gets wrong often enough to count.
WITHIN = {((3, 2), "held out"): 10_000, ((3, 2), "any"): 30_000, ((4, 4), "held out"): 500}
NEW_TOKENS = 8  # five digits of the longest answer, its end, and room to be wrong in
ENOUGH = 10  # wrong ones and right ones, for a figure
LEVEL = 0.95
# One arm, one block: the values of the trace are wanted here, not its cost.
SETTINGS = (
    "mode=cached",
    "trace.probabilities=true",
    "trace.top_k=0",
    "workload.stop=tokenizer",
    f"workload.new_tokens={NEW_TOKENS}",
    "workload.batch_size=500",
    "measure.blocks=1",
    "measure.warmup=0",
    "stream.interval=0",
    "launch=inline",
    "threads=1",
    "report=false",
)


@dataclass(frozen=True)
class Answer:
    """One sum as it was answered."""

    right: bool
    lowest_probability: float


@dataclass(frozen=True)
class Auroc:
    """With DeLong's interval on the logit scale, where it cannot leave 0 … 1; `p` is Mann-Whitney's, two-sided."""

    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"AUROC {self.value:.3f} [{self.low:.3f}, {self.high:.3f}], p = {self.p:.1g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="where the run folder stays (default: nowhere)")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    mixed = {shape: drawn(dice, shape, "held out", count) for shape, count in MIXTURE.items()}
    within = {(shape, kind): drawn(dice, shape, kind, count) for (shape, kind), count in WITHIN.items()}
    sums = [pair for group in (*mixed.values(), *within.values()) for pair in group]
    with TemporaryDirectory() as scratch:
        answers = iter(answered(sums, options.results or Path(scratch), Path(scratch) / "sums.jsonl"))
    answered_mixture = {shape: [next(answers) for _ in pairs] for shape, pairs in mixed.items()}
    print(line("mixture", [answer for group in answered_mixture.values() for answer in group]))
    for (a, b), group in answered_mixture.items():
        print(f"    {a} + {b} digits: {sum(not answer.right for answer in group)} of {len(group)} wrong")
    for ((a, b), kind), pairs in within.items():
        print(line(f"{a} + {b} digits, {kind}", [next(answers) for _ in pairs]))
    print(f"(score: lowest token probability of the answer; intervals: DeLong, {LEVEL:.0%})")


def drawn(dice: random.Random, shape: Pair, kind: str, most: int) -> list[Pair]:
    """Different sums of a shape: as many as there are, but not more than `most`."""
    if math.prod(10**digits for digits in shape) > 10**6:
        found: dict[Pair, None] = {}  # a set that keeps its order; there are plenty
        while len(found) < most:
            found[summands(dice, shape, held_out=True)] = None
        return list(found)
    first, second = (range(10 ** (digits - 1), 10**digits) for digits in shape)
    trained = shape in TRAINED and kind == "held out"
    pairs = [(a, b) for a in first for b in second if not trained or is_held_out(a, b)]
    return dice.sample(pairs, min(most, len(pairs)))


def answered(sums: list[Pair], results: Path, prompts: Path) -> list[Answer]:
    """The sums, decoded by one kvbench run with the trace on."""
    prompts.write_text("".join(json.dumps({"prompt": f"{a}+{b}="}) + "\n" for a, b in sums))
    if kvbench([*SETTINGS, f"workload.prompts={prompts}", f"results_dir={results}"]):
        raise SystemExit("the run failed")
    (run,) = find_runs([results]).runs[-1:]
    table = read_steps(run.folder)
    assert table is not None
    trace = lane_rows(table, "trace")
    lowest = np.ones(len(sums))
    np.minimum.at(lowest, trace["prompt"].to_numpy(), trace["probability"].to_numpy())
    (arm,) = run.record.arms
    return [
        Answer(text == str(a + b) and finish == "stop", float(score))
        for (a, b), text, finish, score in zip(sums, arm.texts, arm.finish_reason, lowest, strict=True)
    ]


def auroc(wrong: np.ndarray, right: np.ndarray) -> Auroc:
    """How well low scores mark the wrong ones (DeLong, DeLong & Clarke-Pearson 1988, for one curve)."""
    value = float(mannwhitneyu(right, wrong).statistic) / (len(wrong) * len(right))
    above = (right[None, :] > wrong[:, None]) + 0.5 * (right[None, :] == wrong[:, None])  # (wrong, right)
    variance = above.mean(axis=1).var(ddof=1) / len(wrong) + above.mean(axis=0).var(ddof=1) / len(right)
    if 0 < value < 1:
        centre, half = math.log(value / (1 - value)), math.sqrt(variance) / (value * (1 - value))
        reach = float(norm.ppf(0.5 + LEVEL / 2)) * half
        low, high = (1 / (1 + math.exp(-bound)) for bound in (centre - reach, centre + reach))
    else:
        low = high = value
    return Auroc(value, low, high, float(mannwhitneyu(right, wrong).pvalue))


def line(name: str, answers: list[Answer]) -> str:
    """Counts, the AUROC where there are enough of both kinds, and the middle scores."""
    wrong = np.array([answer.lowest_probability for answer in answers if not answer.right])
    right = np.array([answer.lowest_probability for answer in answers if answer.right])
    counts = f"{name:<22} {len(answers):6,} sums, {len(wrong):4} wrong"
    if min(len(wrong), len(right)) < ENOUGH:
        return f"{counts}: no figure, it takes {ENOUGH} wrong and {ENOUGH} right"
    return f"{counts}: {auroc(wrong, right)}; median score {np.median(wrong):.3g} wrong, {np.median(right):.4g} right"


if __name__ == "__main__":
    main()
