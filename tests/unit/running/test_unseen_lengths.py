"""What a first visit paid for is looked for at context lengths that nothing has visited, on the run's own prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kvbench.arm import Arm
from kvbench.config.rules import check
from kvbench.config.schema import Config, ModelConfig, WorkloadConfig
from kvbench.decoding.protocol import PromptBatch, Unobserved
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.tokenizers import byte_tokenizer
from kvbench.plan import Prompts, make_plan
from kvbench.records.timings import ColdEvidence, ColdVisit, Visit
from kvbench.running.torch_backend import TorchBackend
from kvbench.running.torch_session import TorchSession, other_attentions
from kvbench.running.visits import NO_LENGTH, NOTEWORTHY, PROBE_STEPS, evidence, unseen_batch, visit

TEN, TWENTY = "abcdefghij", "klmnopqrstuvwxyzABCD"  # a byte is a token
NEW_TOKENS = 6
ROOM = 512  # the context of the tiny model, and far more than these tests need


@pytest.fixture
def prepared(tiny_model: Callable[..., Any]) -> Callable[..., TorchSession]:
    """A session on a tiny model: `prepared("nocache", "cached", context=40)`; arms by mode."""

    def prepare(
        *modes: str,
        texts: tuple[str, ...] = (TEN,),
        context: int = ROOM,
        architecture: str = "llama",
        attention: str = "auto",
        **workload: Any,
    ) -> TorchSession:
        config = Config(
            model=ModelConfig(name="m", weights="path", path="(loaded)"),
            arms=[Arm(mode=mode, attention=attention) for mode in modes],
            workload=WorkloadConfig(**{"new_tokens": NEW_TOKENS, **workload}),
        )
        check(config)
        plan = make_plan(config, Prompts(texts))
        limit = {"gpt2": "n_positions"}.get(architecture, "max_position_embeddings")
        model = tiny_model(architecture, vocab_size=300, **{limit: context})
        backend = TorchBackend(adopt(model, byte_tokenizer(300), "m"), torch.device("cpu"), NullSensors("none"))
        return backend.session(plan)

    return prepare


Prepare = Callable[..., TorchSession]


def contexts(session: TorchSession, arm: int, batch: PromptBatch, new_tokens: int) -> list[int]:
    """The context lengths of the passes that decode a batch."""
    decoder = session.decoders.plain(arm)
    decoder.prepare(None)
    passes = decoder.run(batch, new_tokens, Unobserved()).passes
    return [each.past_after or each.submitted for each in passes]


def visited(session: TorchSession, arm: int) -> list[int]:
    return [length for batch in session.batches for length in contexts(session, arm, batch, NEW_TOKENS)]


def probed(session: TorchSession, arm: int, most: int = 5) -> list[list[int]]:
    """The context lengths of one probe after another, until none is left."""
    batches = iter(lambda: unseen_batch(session, arm, PROBE_STEPS), None)
    return [contexts(session, arm, batch, PROBE_STEPS + 1) for batch in islice(batches, most)]


def rows(batch: PromptBatch) -> list[list[int]]:
    """The tokens of each row without its padding."""
    return [row[len(row) - length :] for row, length in zip(batch.input_ids.tolist(), batch.lengths, strict=True)]


class TestUnseenLengths:
    @pytest.mark.parametrize("texts", [(TEN,), (TEN, TWENTY), (TWENTY, TEN)], ids=["one", "longer", "shorter"])
    @pytest.mark.parametrize("arm", [0, 1])
    def test_meet_no_visited_length_nor_each_other(self, prepared: Prepare, texts: tuple[str, ...], arm: int) -> None:
        session = prepared("nocache", "cached", texts=texts)
        probes = probed(session, arm)
        every = [length for probe in probes for length in probe]
        assert [PROBE_STEPS + 1] * 5 == list(map(len, probes))
        assert len(every) == len(set(every))
        assert set() == set(every) & set(visited(session, arm))
        assert min(every) > max(visited(session, arm))

    def test_are_others_for_every_arm(self, prepared: Prepare) -> None:
        session = prepared("nocache", "cached")
        every = [length for arm in (0, 1, 0, 1) for probe in probed(session, arm, most=1) for length in probe]
        assert 4 * (PROBE_STEPS + 1) == len(every) == len(set(every))

    @pytest.mark.parametrize("architecture", ["llama", "gpt2"])
    def test_near_the_end_of_the_context_come_from_below_the_prompt(self, prepared: Prepare, architecture: str) -> None:
        session = prepared("cached", texts=(TWENTY,), context=28, architecture=architecture)
        probes = probed(session, 0)
        every = [length for probe in probes for length in probe]
        assert [5, 5, 5] == list(map(len, probes))
        assert len(every) == len(set(every))
        assert 0 < min(every) <= max(every) < len(TWENTY)

    def test_are_beyond_the_run_as_far_as_the_context_reaches_and_below_the_prompt_then(
        self, prepared: Prepare
    ) -> None:
        # The run ends at a context of 25, so the first probe begins at 28 and its last pass is at 32.
        session = prepared("cached", texts=(TWENTY,), context=32)
        above, below, *_ = probed(session, 0)
        assert [28, 29, 30, 31, 32] == above
        assert max(below) < len(TWENTY)
        session = prepared("cached", texts=(TWENTY,), context=31)
        assert max(map(max, probed(session, 0))) < len(TWENTY)

    def test_below_the_prompt_are_below_the_shortest_of_them(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=(TWENTY, TEN), context=28)
        (probe,) = probed(session, 0)
        assert max(probe) < len(TEN)

    def test_that_are_not_there_are_none_from_then_on(self, prepared: Prepare) -> None:
        session = prepared("cached", context=18)
        assert unseen_batch(session, 0, PROBE_STEPS) is not None
        assert [None, None] == [unseen_batch(session, 0, PROBE_STEPS) for _ in range(2)]

    def test_of_a_prompt_of_few_tokens_are_not_there(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=("abc",), context=12)
        assert unseen_batch(session, 0, PROBE_STEPS) is None

    def test_are_made_of_the_prompts_own_tokens_over_and_over(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=("abc", "defgh"), batch_size=2)
        batch = unseen_batch(session, 0, PROBE_STEPS)
        assert batch is not None
        length = batch.longest
        assert [list((text * length)[:length].encode()) for text in ("abc", "defgh")] == rows(batch)
        assert ((length, length), None) == (batch.lengths, batch.mask)

    @pytest.mark.parametrize("mode", ["generate", "generate_nocache", "interrupted"])
    def test_are_not_asked_of_a_mode_that_is_not_a_plain_loop_of_ours(self, prepared: Prepare, mode: str) -> None:
        session = prepared("nocache", mode)
        assert unseen_batch(session, 1, PROBE_STEPS) is None
        untouched = prepared("nocache", mode)
        assert probed(untouched, 0, most=1) == probed(session, 0, most=1)  # asking in vain used none up


class TestAnotherAttention:
    @pytest.mark.parametrize(
        ("attention", "others"), [("auto", ("math",)), ("sdpa", ("math",)), ("eager", ("math",)), ("math", ())]
    )
    @pytest.mark.parametrize("arm", [0, 1])
    def test_on_a_cpu_is_math_unless_the_arm_has_it(
        self, prepared: Prepare, attention: str, others: tuple[str, ...], arm: int
    ) -> None:
        session = prepared("nocache", "cached", attention=attention)
        assert others == other_attentions(session, arm)

    def test_may_be_one_that_takes_masks_when_prompts_differ_in_length(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=(TEN, TWENTY), batch_size=2)
        assert ("math",) == other_attentions(session, 0)

    @pytest.mark.parametrize("error", [RuntimeError("No available kernel"), ValueError("does not support SDPA")])
    def test_that_fails_on_this_model_is_left_out(
        self, prepared: Prepare, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        session = prepared("cached")
        pretend_kernels(monkeypatch, session, {"math": error})
        assert () == other_attentions(session, 0)

    @pytest.mark.parametrize(
        ("broken", "others"),
        [
            ((), ("flash",)),
            (("flash",), ("efficient",)),
            (("flash", "efficient"), ("math",)),
            (("flash", "efficient", "math"), ()),
        ],
    )
    def test_on_a_gpu_is_the_first_that_has_a_kernel(
        self, prepared: Prepare, monkeypatch: pytest.MonkeyPatch, broken: Sequence[str], others: tuple[str, ...]
    ) -> None:
        session = prepared("cached")
        tried = pretend_kernels(monkeypatch, session, dict.fromkeys(broken, RuntimeError("No available kernel")))
        pretend_gpu(monkeypatch, session)
        assert others == other_attentions(session, 0)
        assert [*broken, *others] == tried

    def test_on_a_gpu_is_not_the_arm_s_own(self, prepared: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
        session = prepared("cached", attention="flash")
        pretend_kernels(monkeypatch, session, {})
        pretend_gpu(monkeypatch, session)
        assert ("efficient",) == other_attentions(session, 0)

    def test_on_a_gpu_is_not_flash_when_prompts_differ_in_length(
        self, prepared: Prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = prepared("cached", texts=(TEN, TWENTY), batch_size=2)
        pretend_kernels(monkeypatch, session, {})
        pretend_gpu(monkeypatch, session)
        assert ("efficient",) == other_attentions(session, 0)


def pretend_kernels(monkeypatch: pytest.MonkeyPatch, session: TorchSession, broken: dict[str, Exception]) -> list[str]:
    """Decoders that only fail, where they shall; the list fills with the attentions that were tried."""
    tried: list[str] = []

    def decoder(arm: int, *, attention: str) -> Any:
        def run(*arguments: Any) -> None:
            tried.append(attention)
            if attention in broken:
                raise broken[attention]

        return SimpleNamespace(prepare=lambda block: None, run=run)

    monkeypatch.setattr(session.decoders, "plain", decoder)
    return tried


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, session: TorchSession) -> None:
    monkeypatch.setattr(session.model, "device", SimpleNamespace(type="cuda"))


class TestAFreshBatch:
    def test_has_the_same_tokens_in_another_order(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=(TEN, TWENTY, "mississippi"), batch_size=2)
        for batch in session.batches:
            fresh = session.batches.fresh(batch, 1)
            assert (batch.index, batch.lengths) == (fresh.index, fresh.lengths)
            assert list(map(Counter, rows(batch))) == list(map(Counter, rows(fresh)))
            assert all(old != new for old, new in zip(rows(batch), rows(fresh), strict=True))

    def test_has_the_same_shape_positions_and_mask(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=(TEN, TWENTY), batch_size=2)
        (batch,) = session.batches
        fresh = session.batches.fresh(batch, 1)
        assert batch.mask is not None
        assert fresh.mask is not None
        assert batch.input_ids.shape == fresh.input_ids.shape
        assert torch.equal(batch.positions, fresh.positions)
        assert torch.equal(batch.mask, fresh.mask)

    def test_is_another_for_another_seed_and_the_same_for_the_same(self, prepared: Prepare) -> None:
        session = prepared("cached", texts=(TWENTY,))
        first, again, other = (rows(session.batches.fresh(session.batches[0], seed)) for seed in (1, 1, 2))
        assert (True, False) == (first == again, first == other)

    def test_leaves_the_run_s_own_as_it_was(self, prepared: Prepare) -> None:
        session = prepared("cached")
        session.batches.fresh(session.batches[0], 1)
        assert [list(TEN.encode())] == rows(session.batches[0])

    @pytest.mark.parametrize("arm", [0, 1])
    def test_is_decoded_at_the_lengths_of_the_run(self, prepared: Prepare, arm: int) -> None:
        session = prepared("nocache", "cached", texts=(TEN, TWENTY), batch_size=2)
        fresh = session.batches.fresh(session.batches[0], 1)
        assert visited(session, arm) == contexts(session, arm, fresh, NEW_TOKENS)


class TestTheEvidence:
    def found(
        self, session: TorchSession, arm: int = 0, ratio: float = 1000.0, begun: list[int] | None = None
    ) -> ColdEvidence:
        """What is found out about a first visit whose steps took so many times a warm one's."""
        warm = [visit(session, arm, batch, "throughput", None) for batch in session.batches]
        warm = [replace(each, decode_s=1.0 * each.steps) for each in warm]
        cold = ColdVisit(arm, ttft_s=1.0, itl_s=ratio, step_s=())
        return evidence(session, cold, warm, lambda: (begun if begun is not None else []).append(arm))

    def test_is_read_from_the_arm_s_own_attention_and_another_at_lengths_of_their_own(self, prepared: Prepare) -> None:
        session = prepared("nocache", "cached")
        for arm in (0, 1):
            found = self.found(session, arm)
            assert (arm, None) == (found.arm, found.reason)
            assert [("auto", 4), ("math", 4)] == [(probe.attention, probe.steps) for probe in found.probes]
            first, second = (range(probe.context_length, probe.context_length + probe.steps) for probe in found.probes)
            assert max(visited(session, arm)) < first[0] <= first[-1] < second[0]

    def test_begins_at_the_first_step_after_the_prefill(self, prepared: Prepare) -> None:
        session = prepared("cached")
        (own, _) = self.found(session).probes
        untouched = prepared("cached")
        assert probed(untouched, 0, most=1)[0][1] == own.context_length

    def test_has_times_and_knows_no_allocations_without_a_gpu(self, prepared: Prepare) -> None:
        (own, other) = self.found(prepared("cached")).probes
        for probe in (own, other):
            times = (probe.first_ttft_s, probe.second_ttft_s, probe.first_itl_s, probe.second_itl_s)
            assert all(seconds > 0 for seconds in times)
            assert (None, None) == (probe.first_allocations, probe.first_driver_bytes)
            assert (None, None) == (probe.second_allocations, probe.second_driver_bytes)

    def test_is_what_the_device_s_figures_grew_by(self, prepared: Prepare) -> None:
        session = prepared("cached", attention="math")
        states = iter([(10, 1000), (13, 1500), (14, 1400)])
        session.untimed = replace(session.untimed, device_state=lambda _: next(states))
        (own,) = self.found(session).probes
        assert (3, 500, 1, -100) == (
            own.first_allocations,
            own.first_driver_bytes,
            own.second_allocations,
            own.second_driver_bytes,
        )

    @pytest.mark.parametrize(("ratio", "looked"), [(0.9, False), (NOTEWORTHY - 0.01, False), (NOTEWORTHY, True)])
    def test_is_looked_for_when_the_first_visit_cost_half_as_much_again(
        self, prepared: Prepare, ratio: float, looked: bool
    ) -> None:
        begun: list[int] = []
        found = self.found(prepared("cached"), ratio=ratio, begun=begun)
        assert ([0] if looked else [], looked) == (begun, bool(found.probes))
        assert (None if looked else f"the first visit's steps took {ratio:.2f} times a warm one's") == found.reason

    @pytest.mark.parametrize(("warm", "itl_s"), [(False, 5.0), (True, None)])
    def test_is_not_looked_for_with_nothing_to_hold_together(
        self, prepared: Prepare, warm: bool, itl_s: float | None
    ) -> None:
        session = prepared("cached")
        visits: list[Visit] = [visit(session, 0, session.batches[0], "throughput", None)] if warm else []
        found = evidence(session, ColdVisit(0, 1.0, itl_s, ()), visits, pytest.fail)
        assert ((), True) == (found.probes, "no warm visit" in (found.reason or ""))

    @pytest.mark.parametrize("mode", ["interrupted", "generate"])
    def test_is_not_read_from_arms_that_have_no_unseen_lengths(self, prepared: Prepare, mode: str) -> None:
        found = self.found(prepared("nocache", mode), arm=1)
        assert (1, ()) == (found.arm, found.probes)
        assert NO_LENGTH == found.reason

    def test_without_room_for_another_probe_is_of_the_arm_s_own_attention(self, prepared: Prepare) -> None:
        found = self.found(prepared("cached", context=18))
        assert (["auto"], None) == ([probe.attention for probe in found.probes], found.reason)

    def test_is_not_of_probes_that_a_stop_token_ended(self, prepared: Prepare) -> None:
        session = prepared("cached")
        warm = [visit(session, 0, session.batches[0], "throughput", None)]
        session.stop_ids = tuple(range(300))
        assert () == evidence(session, ColdVisit(0, 1.0, 1000.0, ()), warm, lambda: None).probes
