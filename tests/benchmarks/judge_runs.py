"""One run of `judge.py`: arms of one model decoded and judged by kvbench, and how large their faults are in truth.

The path through kvbench is that of any run, without its timing: configuration, plan, session, untimed passes, the
figures on agreement, the verdict. The size of a fault is computed here, from bare passes of the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from judge_faults import BUCKET, CHUNK, LONG, NEW_TOKENS, Injection, injected, installed
from judge_models import VOCABULARY, Shape, build, wider

from kvbench.analysis.output_verdict import judge
from kvbench.arm import Arm
from kvbench.config.schema import (
    CheckConfig,
    Config,
    MeasureConfig,
    ModelConfig,
    SamplingConfig,
    StreamConfig,
    WorkloadConfig,
)
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.own import adopt_own
from kvbench.models.tokenizers import NoTokenizer
from kvbench.plan import Prompts, make_plan
from kvbench.records.agreement_figures import Agreement, AgreementFigures
from kvbench.running.torch_backend import TorchBackend

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WIDER = {"float32": torch.float64, "bfloat16": torch.float32, "float16": torch.float32}


@dataclass(frozen=True)
class Work:
    """What a run decodes, and how."""

    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    batch_size: int = 1
    chunk: int | None = None
    temperature: float = 0.0
    penalty: float = 1.0
    seed: int = 0
    baseline: Mapping[str, Any] = field(default_factory=lambda: {"mode": "nocache"})
    candidate: Mapping[str, Any] = field(default_factory=lambda: {"mode": "cached"})

    @property
    def batches(self) -> list[list[tuple[int, ...]]]:
        """The prompts, as they are decoded together."""
        return [
            list(self.prompts[first : first + self.batch_size])
            for first in range(0, len(self.prompts), self.batch_size)
        ]


def prompts(lengths: Sequence[int], seed: int) -> tuple[tuple[int, ...], ...]:
    """Random ids of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(tuple(torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()) for length in lengths)


def workload(kind: str, *, own: bool, windowed: bool) -> Work:
    """Of the faults: two batches of two rows, the second one's of two lengths.

    A context of 64 lies in every run, and of those of a model with a window its crossing.
    """
    # A model of one's own is handed no mask.
    short, first, second = 46 - windowed * 22, 52 - windowed * 25, 46 - windowed * 25
    changes: dict[str, dict[str, Any]] = {
        "bucket": {"baseline": {"mode": "nocache", "bucket": BUCKET}},
        "chunk": {"chunk": CHUNK},
        "static": {"candidate": {"mode": "cached", "cache": "static"}},
    }
    lengths = (short, short, first, first if own else second)
    return Work(prompts(lengths, 1), LONG if kind == "long" else NEW_TOKENS, 2, **changes.get(kind, {}))


# What kvbench says.


@dataclass
class Judged:
    """A candidate arm's figures and verdict, and the seconds that the comparison of all candidates took."""

    figures: AgreementFigures
    agreement: Agreement
    seconds: float


class Run:
    """Arms of one model decoded by kvbench once; then judged by each of its two checks.

    There is one candidate arm for each of `injections`, None for a sound one; `arms` are theirs where they differ.
    Raises `KvbenchError` for what kvbench refuses.
    """

    def __init__(
        self,
        model: Any,
        work: Work,
        injections: Sequence[Injection | None],
        arms: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.model, self.work, self.injections = model, work, injections
        self.arms = arms or [work.candidate] * len(injections)
        every = range(len(injections))
        self._attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
        with installed(model):
            session = self._session("few", every)
            started = time.perf_counter()
            self.passes = [session.untimed.pass_of(session, arm) for arm in range(len(injections) + 1)]
            self.passes_s = time.perf_counter() - started

    def judged(self, check: str, candidates: Sequence[int] | None = None) -> dict[int, Judged]:
        """The verdicts of some candidates, or all, with `check.agreement` few or full."""
        candidates = range(len(self.injections)) if candidates is None else candidates
        if not candidates:
            return {}
        session = self._session(check, candidates)
        passes = [self.passes[0]]
        passes += [replace(self.passes[each + 1], arm=arm) for arm, each in enumerate(candidates, start=1)]
        started = time.perf_counter()
        with installed(self.model):
            figures = _figures(session, passes)
        seconds = time.perf_counter() - started
        return {each: Judged(found, judge(found), seconds) for each, found in zip(candidates, figures, strict=True)}

    def _session(self, check: str, candidates: Sequence[int]) -> Any:
        work = self.work
        own = not hasattr(self.model, "config")
        model_config = ModelConfig(name="tiny", weights="path", path="(loaded)")
        if own:
            model_config = ModelConfig(name="tiny", weights="python", target="judge_models:OwnModel")
        config = Config(
            model=model_config,
            arms=[Arm(**work.baseline), *(Arm(**self.arms[each]) for each in candidates)],
            workload=WorkloadConfig(new_tokens=work.new_tokens, batch_size=work.batch_size, prefill_chunk=work.chunk),
            sampling=SamplingConfig(temperature=work.temperature, repetition_penalty=work.penalty, seed=work.seed),
            stream=StreamConfig(interval=0),
            check=CheckConfig(check),
            measure=MeasureConfig(energy_s=0),
            launch="inline",
        )
        if self._attention is not None:  # as it was before another session's arms
            self.model.set_attn_implementation(self._attention)
        plan = make_plan(config, Prompts(token_ids=work.prompts))
        device = torch.device("cpu")
        if own:
            loaded = adopt_own(self.model, "tiny", "model=tiny", device)
        else:
            loaded = adopt(self.model, NoTokenizer(), "tiny")
        session = TorchBackend(loaded, device, NullSensors("none")).session(plan)
        session.decoders = _FaultyDecoders(session.decoders, [None, *(self.injections[each] for each in candidates)])
        return session


def _figures(session: Any, passes: Sequence[Any]) -> list[AgreementFigures]:
    """The one place that knows how kvbench compares arms."""
    untimed = session.untimed
    if hasattr(untimed, "agreements"):
        return list(untimed.agreements(session, passes, lambda done, total: None))
    return [untimed.agreement(session, candidate, passes) for candidate in range(1, len(passes))]


class _FaultyDecoders:
    """A run's decoders, each with its arm's fault while it runs."""

    def __init__(self, sound: Any, injections: Sequence[Injection | None]) -> None:
        self._sound, self._injections = sound, injections

    def __getattr__(self, name: str) -> Any:
        made = getattr(self._sound, name)
        if name not in ("plain", "unprepared", "traced"):
            return made
        return lambda arm, *rest, **named: _FaultyDecoder(made(arm, *rest, **named), self._injections[arm])


class _FaultyDecoder:
    def __init__(self, sound: Any, injection: Injection | None) -> None:
        self._sound, self._injection = sound, injection

    def prepare(self, block: int | None) -> None:
        self._sound.prepare(block)

    def run(self, batch: Any, *rest: Any, **named: Any) -> Any:
        if self._injection is not None:
            self._injection.begin(batch.index, batch.lengths, batch.longest)
        with injected(self._injection):
            return self._sound.run(batch, *rest, **named)


# How large a fault is: bare passes on recompute's path, without kvbench.


@dataclass
class Sizes:
    """A fault's change of the logits over the sound arm's own rounding, by batch (steps, rows)."""

    by_batch: list[torch.Tensor]
    acted: int

    @property
    def worst(self) -> float:
        """At the worst step of the worst row."""
        return max(float(each.max()) for each in self.by_batch)

    @property
    def place(self) -> tuple[int, int, int]:
        """Batch, step and row of the worst."""
        number = max(range(len(self.by_batch)), key=lambda batch: float(self.by_batch[batch].max()))
        step, row = divmod(int(self.by_batch[number].argmax()), self.by_batch[number].shape[1])
        return number, step, row


class Truth:
    """The sound arm and its rounding on one path, to hold faulty arms against.

    `paths` are the tokens of each batch, (rows, steps). Rounding is the difference from the same model in a wider type.
    """

    def __init__(self, model: Any, shape: Shape, dtype: str, work: Work, paths: Sequence[torch.Tensor]) -> None:
        self.model, self.work, self.paths = model, work, paths
        self.wide_model = wider(shape, model, WIDER[dtype])
        self.wide = [self._followed(self.wide_model, number) for number in range(len(paths))]
        self.sound = [self._followed(model, number) for number in range(len(paths))]
        self.rounding = [rms(a - b) for a, b in zip(self.sound, self.wide, strict=True)]

    def size(self, injection: Injection) -> Sizes:
        """Of one fault. A step's rounding is its own or the row's mean over the run, whichever is larger."""
        found = []
        with installed(self.model), injected(injection):
            for number, (sound, rounding) in enumerate(zip(self.sound, self.rounding, strict=True)):
                change = rms(self._followed(self.model, number, injection) - sound)
                usual = rounding.pow(2).mean(0, keepdim=True).sqrt()
                # Where nothing rounds, the smallest step of the type would.
                least = torch.finfo(self.model_dtype).eps / 8 * rms(sound)
                found.append((change / torch.maximum(rounding, usual).maximum(least)).nan_to_num(torch.inf))
        return Sizes(found, injection.acted)

    @property
    def model_dtype(self) -> torch.dtype:
        """The type that is judged."""
        return next(self.model.parameters()).dtype

    def errors(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What recompute and the arm with a cache round on the path of a batch, against recompute in the wider type.

        Root mean squares (steps, rows) over the vocabulary.
        """
        wide = self._followed(self.wide_model, number, again=True)
        recomputed = self._followed(self.model, number, again=True)
        return rms(recomputed - wide), rms(self.sound[number] - wide)

    @torch.inference_mode()
    def _followed(
        self, model: Any, number: int, injection: Injection | None = None, *, again: bool = False
    ) -> torch.Tensor:
        """Logits (steps, rows, vocabulary) of the arm with a cache on the path of a batch, in float64.

        `again` is recompute: every pass submits all tokens, with no cache.
        """
        rows = self.work.batches[number]
        longest = max(map(len, rows))
        if injection is not None:
            injection.begin(number, [len(row) for row in rows], longest)
        prompt = torch.tensor([[row[0]] * (longest - len(row)) + list(row) for row in rows])
        ids = torch.cat([prompt, self.paths[number]], 1)
        padding = torch.tensor([longest - len(row) for row in rows])
        padding = padding if bool(padding.any()) else None
        if again:
            return torch.stack(
                [_cached_pass(model, padding, ids, self.work)((0,), last) for last in range(longest, ids.shape[1])]
            )
        cached = _cached_pass(model, padding, ids, self.work)
        return torch.stack([cached(first, last) for first, last in _spans(longest, ids.shape[1], self.work.chunk)])


def _spans(prompt: int, end: int, chunk: int | None) -> Iterator[tuple[tuple[int, ...], int]]:
    """Where the passes of a token begin, and where its last one ends; the last token of the path is not submitted."""
    yield tuple(range(0, prompt, chunk or prompt)), prompt
    for last in range(prompt + 1, end):
        yield (last - 1,), last


def _cached_pass(
    model: Any, padding: torch.Tensor | None, ids: torch.Tensor, work: Work
) -> Callable[[tuple[int, ...], int], torch.Tensor]:
    """Passes over columns of `ids` with one cache; each gives the last column's logits."""
    if not hasattr(model, "config"):
        own_cache = model.new_cache(len(ids))
        call: Callable[[int, int], torch.Tensor] = lambda first, last: model(ids[:, first:last], own_cache)  # noqa: E731
    else:
        call = _transformers_pass(model, padding, ids, work)

    def passes(starts: tuple[int, ...], end: int) -> torch.Tensor:
        for first, last in zip(starts, (*starts[1:], end), strict=True):
            logits = call(first, last)
        return logits[:, -1].double()

    return passes


def _transformers_pass(
    model: Any, padding: torch.Tensor | None, ids: torch.Tensor, work: Work
) -> Callable[[int, int], torch.Tensor]:
    import inspect

    from transformers import DynamicCache, StaticCache

    known = inspect.signature(model.forward).parameters
    cache: Any = DynamicCache(config=model.config)
    if work.candidate.get("cache") == "static":
        cache = StaticCache(config=model.config, max_cache_len=ids.shape[1] + 8)
    columns = torch.arange(ids.shape[1])[None]
    places = columns if padding is None else (columns - padding[:, None]).clamp(min=0)

    def call(first: int, last: int) -> torch.Tensor:
        named: dict[str, Any] = {"cache" if "cache" in known else "past_key_values": cache}
        if "position_ids" in known:
            named["position_ids"] = places[:, first:last]
        if padding is not None:
            named["attention_mask"] = (columns[:, :last] >= padding[:, None]).long()
        logits: torch.Tensor = model(input_ids=ids[:, first:last], use_cache=True, **named).logits
        return logits

    return call


def rms(tensor: torch.Tensor) -> torch.Tensor:
    """Root mean square over the vocabulary."""
    return tensor.pow(2).mean(-1).sqrt()


def paths_of(run: Run) -> list[torch.Tensor]:
    """Recompute's own tokens, (rows, steps) of each batch."""
    tokens = iter(run.passes[0].tokens)
    return [torch.tensor([next(tokens) for _ in batch]) for batch in run.work.batches]


@contextmanager
def without_collecting() -> Iterator[None]:
    """A context without collecting garbage: a run does so before each of its passes, most of its time."""
    import gc

    collect = gc.collect
    gc.collect = lambda *generation: 0  # type: ignore[assignment]
    try:
        yield
    finally:
        gc.collect = collect
        gc.collect()


def model_of(shape: Shape, dtype: str) -> Any:
    """The model that is judged."""
    return build(shape, DTYPES[dtype])
