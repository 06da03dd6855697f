"""Do arms compute the same? Judged on one token path, so that one early difference does not decide the rest.

Every arm follows the first arm's tokens, and its logits are held against a reference: the same model in a wider type
where there is one, else the first arm itself. How large an error rounding makes is measured beside it: by the first
arm's own error, and by that of the same computation summed in other orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kvbench.decoding.candidate import Candidate
from kvbench.decoding.fault_place import place_of_fault
from kvbench.decoding.logit_differences import overall, step_figures
from kvbench.decoding.rounding_level import Way, measure_rounding, why_not_wider
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import Compared, as_timed, divergences, followed, stretches, with_routes
from kvbench.records.agreement_figures import AgreementFigures, AgreementStep, ReferenceDistance


def compare(
    run: Compared,
    tokens: Sequence[Sequence[Sequence[int]]],
    tell: Callable[[int, int], None],
) -> list[AgreementFigures]:
    """Every arm but the first held against the first along its tokens, over all batches.

    `tokens` has each arm's free run: arm, prompt, token. `tell(done, total)` is told how far it is.
    """
    comparing = {arm: Candidate(arm, divergences(tokens[0], tokens[arm])) for arm in range(1, len(tokens))}
    ways: dict[bool, dict[str, Way]] = {False: {}, True: {}}  # by whether the experts are chosen freely
    parted = [each for candidate in comparing.values() for each in candidate.divergences]
    pieces = list(stretches(run, tokens, parted))
    if run.wider is not None and (why_not := why_not_wider(run, pieces[0])):
        run = replace(run, wider=None, without_wider=why_not)
    total = len(pieces) * (len(comparing) + 1)
    for number, stretch in enumerate(pieces):
        done = number * (len(comparing) + 1)
        tell(done, total)
        by_choice = {
            free: stretch if free else with_routes(run, stretch)
            for free in {run.chooses_freely(arm) for arm in comparing}
        }
        levels = {free: measure_rounding(run, piece, ways[free]) for free, piece in by_choice.items()}
        for place, candidate in enumerate(comparing.values()):
            tell(done + 1 + place, total)
            free = run.chooses_freely(candidate.arm)
            judged, flips = as_timed(run, candidate.arm, by_choice[free])
            candidate.take(run, by_choice[free], levels[free], judged, tokens)
            candidate.see(by_choice[free], levels[free].flips, flips)
    run.decoder(0).prepare(None)  # puts the first arm's own attention back
    found = []
    for candidate in comparing.values():
        figures = candidate.figures(run, list(ways[run.chooses_freely(candidate.arm)].values()))
        found.append(replace(figures, place=place_of_fault(run, candidate.arm, candidate.ratios, figures, tokens[0])))
    run.decoder(0).prepare(None)
    return found


def distances(
    run: Compared, tokens: Sequence[Sequence[Sequence[int]]], dtype: str, device: str
) -> list[ReferenceDistance]:
    """How far every arm is from the wider model's recompute on the first arm's path, over all batches."""
    assert run.wider is not None
    parted = [each for arm in tokens[1:] for each in divergences(tokens[0], arm)]
    found: list[list[AgreementStep]] = [[] for _ in tokens]
    for stretch in stretches(run, tokens, parted):
        reference = run.wider(stretch.batch, Forced(stretch.path, stretch.steps))
        for arm, steps in enumerate(found):
            steps += step_figures(reference, followed(run.decoder, arm, stretch), stretch.steps, stretch.number)
    return [
        ReferenceDistance(arm=arm, dtype=dtype, device=device, steps=len(steps), **overall(steps))
        for arm, steps in enumerate(found)
    ]
