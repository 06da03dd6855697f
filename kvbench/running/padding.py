"""Whether padding changes what a model makes of a prompt: some models cannot leave it out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvbench.decoding.forward import make_batch
from kvbench.decoding.protocol import PromptBatch
from kvbench.decoding.sampling import Forced
from kvbench.decoding.token_path import follow
from kvbench.records.evidence import RunWarning
from kvbench.running.torch_session import TorchSession

TIMES_ROUNDING = 10  # of what the unpadded row differs by; a model that sees padding differs by far more
STEPS_OF_TYPE = 8  # of the model's type at 1: below them nothing is seen, however small the rounding happened to be


def padding_taken_for_text(session: TorchSession) -> RunWarning | None:
    """A warning where the shortest prompt of a padded batch gets other logits than it gets alone; else None.

    Two prefills more, none where no batch is padded. What the longest row, which has no padding, differs by in the
    batch and alone is the rounding.
    """
    batch = next((each for each in session.batches if each.mask is not None), None)
    if batch is None:
        return None
    rows = [batch.lengths.index(length) for length in (min(batch.lengths), max(batch.lengths))]
    padded, rounding = _differences(session, batch, rows)
    least = STEPS_OF_TYPE * torch.finfo(session.model.loaded.model.dtype).eps
    if not padded > max(least, TIMES_ROUNDING * rounding):
        return None
    name, prompt = type(session.model.loaded.model).__name__, session.batches.members[batch.index][rows[0]] + 1
    return RunWarning(
        code="padding_is_text",
        detail=f"{name} takes padding for text: padded to the length of its batch, prompt {prompt} gets logits that"
        f" differ from those that it gets alone by {padded:.2g} of the largest (rounding: {rounding:.1g}). This is the"
        " model's or transformers' doing, with a cache and without: set workload.batch_size=1, or give prompts of equal"
        " length",
    )


def _differences(session: TorchSession, batch: PromptBatch, rows: Sequence[int]) -> list[float]:
    """How far each row's first logits in the batch are from those of the row alone, over the largest logit."""
    together = _first_logits(session, batch)
    apart = []
    for row in rows:
        ids = batch.input_ids[row, -batch.lengths[row] :].tolist()
        alone = _first_logits(session, make_batch(batch.index, [ids], 1, batch.input_ids.device))[0]
        apart.append(float((together[row] - alone).abs().max() / alone.abs().max()))
    return apart


def _first_logits(session: TorchSession, batch: PromptBatch) -> torch.Tensor:
    forced = Forced(batch.input_ids[:, :1])  # any token will do: the logits before it are looked at
    return follow(session.decoders.unprepared(0, forced), forced, batch)[0].float()
