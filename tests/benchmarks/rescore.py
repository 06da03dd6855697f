"""The re-score check by arm: decoding's own log-probabilities against one pass over what was written.

    python tests/benchmarks/rescore.py                     the embedded model on a CPU, in float32 and bfloat16
    python tests/benchmarks/rescore.py --device cuda       a real shape with random weights in bfloat16, on a GPU
    python tests/benchmarks/rescore.py --sound             tiny models of many architectures whose caches are right
    python tests/benchmarks/rescore.py --faults            some of them, whose caches are broken on purpose

Each row is one arm at one batch size: attention, cache and engine of its decode. The pass over the text uses the
model's own attention. Answers are drawn at temperature 1, so that k1 and k3 estimate the divergence. An arm that this
machine cannot have is named with its reason.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from kvbench.analysis.rescore_verdict import judge_rescore
from kvbench.arm import Arm
from kvbench.config.rules import check
from kvbench.config.schema import CheckConfig, Config, ModelConfig, SamplingConfig, StreamConfig, WorkloadConfig
from kvbench.errors import KvbenchError
from kvbench.measuring.sensors import NullSensors
from kvbench.models.loading import adopt
from kvbench.models.tokenizers import NoTokenizer
from kvbench.plan import Prompts, make_plan
from kvbench.records.rescoring import Rescore
from kvbench.running.arm_rescore import rescore_texts, rescores
from kvbench.running.torch_backend import TorchBackend
from kvbench.scored_texts import GivenText

HEADS = (
    "model", "dtype", "batch", "attention", "cache", "engine", "positions", "verdict", "error", "mean diff", "rounding",
    "k1", "k3", "k3 rounding", "beyond 1.2", "drift / 1,000 tokens", "s",
)  # fmt: skip
CPU_ARMS = [
    {"mode": "nocache"},
    {"mode": "cached"},
    {"mode": "cached", "cache": "static"},
    {"mode": "cached", "cache": "fp8"},
    {"mode": "cached", "attention": "eager"},
    {"mode": "generate"},
]
GPU_ARMS = [
    {"mode": "cached"},
    {"mode": "cached", "attention": "eager"},
    {"mode": "cached", "attention": "flash"},
    {"mode": "cached", "attention": "math"},
    {"mode": "cached", "attention": "grouped"},
    {"mode": "cached", "cache": "static"},
    {"mode": "cached", "cache": "static", "engine": "graph"},
    {"mode": "cached", "cache": "static", "engine": "compiled"},
    {"mode": "cached", "cache": "static", "engine": "fused"},
    {"mode": "cached", "cache": "fp8"},
    {"mode": "generate"},
]
# 2.8 billion parameters: eight layers of a Llama-3-8B, with its vocabulary.
SHAPE = {
    "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 8,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip
WIDTH = 1.5  # of a weight times the square root of what it sums over: a text that is not the same token again and again


def main() -> None:
    """Print one row per arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=int, help="default: 40 on a CPU, 256 on a GPU")
    parser.add_argument("--new-tokens", type=int, help="default: 48 on a CPU, 128 on a GPU")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes (default: 1 4 on a CPU, 1 8 on a GPU)")
    parser.add_argument("--budget", type=float, default=220.0, help="seconds after which no further arm is begun")
    parser.add_argument("--sound", action="store_true", help="false alarms: tiny models, whose caches are right")
    parser.add_argument("--faults", action="store_true", help="misses: tiny models, whose caches are broken")
    asked = parser.parse_args()
    if asked.sound or asked.faults:
        tiny_models(broken=asked.faults)
        return
    on_gpu = asked.device != "cpu"
    ends = time.monotonic() + asked.budget
    print(" | ".join(HEADS))
    for name, model in models(asked.device):
        backend = TorchBackend(
            adopt(model, NoTokenizer(), name), torch.device(asked.device), NullSensors("nothing is timed")
        )
        for batch in asked.batches or ([1, 8] if on_gpu else [1, 4]):
            # The same prompts at every batch size: only what is decoded together differs.
            count = max(asked.batches or [8 if on_gpu else 4])
            prompts = prompts_of(model, count, asked.prompt_tokens or (256 if on_gpu else 40))
            for arm in GPU_ARMS if on_gpu else CPU_ARMS:
                if time.monotonic() > ends:
                    print(f"stopped: --budget {asked.budget:g} s is over")
                    return
                row(name, backend, arm, prompts, batch, asked.new_tokens or (128 if on_gpu else 48))


def models(device: str) -> Iterator[tuple[str, Any]]:
    """Each model with its name, on the device."""
    if device == "cpu":
        from transformers import AutoModelForCausalLM

        from kvbench.models.checkpoint import EMBEDDED

        torch.set_num_threads(1)
        for dtype in (torch.float32, torch.bfloat16):
            yield "embedded", AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=dtype).eval()
        return
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE), dtype=torch.bfloat16).eval()
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=WIDTH / parameter.shape[-1] ** 0.5)
    yield "llama, 8 layers", model.requires_grad_(False)


def prompts_of(model: Any, count: int, tokens: int) -> list[list[int]]:
    """Random ids; every second prompt is a little shorter, so that batches are padded."""
    dice = torch.Generator().manual_seed(7)
    vocabulary = model.config.get_text_config().vocab_size
    lengths = [tokens - 3 * (number % 2) for number in range(count)]
    return [torch.randint(3, vocabulary, (length,), generator=dice).tolist() for length in lengths]


def rescored(
    backend: TorchBackend, name: str, arm: dict[str, str], prompts: Sequence[Sequence[int]], batch: int, new: int
) -> Rescore:
    """The phase of a run that re-scores, alone."""
    config = Config(
        model=ModelConfig(name=name, weights="path", path="(loaded)"),
        arms=[Arm(**arm)],
        workload=WorkloadConfig(new_tokens=new, batch_size=batch),
        sampling=SamplingConfig(temperature=1.0),
        stream=StreamConfig(interval=0),
        check=CheckConfig(rescore=True),
        launch="inline",
    )
    check(config)
    session = backend.session(make_plan(config, Prompts(token_ids=tuple(map(tuple, prompts)))))
    try:
        (samples,) = rescores(session, lambda done, total: None)
    finally:
        backend.put_back(shared=True)
    return judge_rescore(samples)


def row(
    name: str, backend: TorchBackend, arm: dict[str, str], prompts: Sequence[Sequence[int]], batch: int, new: int
) -> None:
    """Decode one arm, and print what came of it."""
    began = time.monotonic()
    dtype = str(backend.loaded.model.dtype).removeprefix("torch.")
    parts = (arm.get("attention", "auto"), arm.get("cache", "dynamic") if arm["mode"] != "nocache" else "none")
    named = (name, dtype, str(batch), *parts, f"{arm['mode']}, {arm.get('engine', 'eager')}")
    try:
        found = rescored(backend, name, arm, prompts, batch, new)
    except (KvbenchError, RuntimeError) as error:  # this machine has no such kernel
        print(" | ".join((*named, f"not here: {str(error).splitlines()[0][:160]}")), flush=True)
        return
    print(" | ".join((*named, *figures(found), f"{time.monotonic() - began:.1f}")), flush=True)
    if found.verdict not in ("IDENTICAL", "EQUAL_WITHIN_ROUNDING"):
        print(f"    {found.detail}", flush=True)


def tiny_models(*, broken: bool) -> None:
    """Many architectures, both types, weights of usual and of great width, along four texts that they drew."""
    import judge_models

    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    for kind in FEW_KINDS if broken else judge_models.SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for width in (1.0, 3.0):
                model = judge_models.build(judge_models.Shape(kind, seed=1, width=width), dtype)
                backend = TorchBackend(adopt(model, NoTokenizer(), kind), torch.device("cpu"), NullSensors(""))
                texts = [drawn(model, number) for number in range(4)]
                for fault in FAULTS if broken else {"": None}:
                    named = f"{kind} {str(dtype).removeprefix('torch.')} width {width:g} {fault}"
                    try:
                        with pytest.MonkeyPatch.context() as patch:
                            if fault:
                                patch.setattr(DynamicLayer, "update", FAULTS[fault])
                            found = judge_rescore(rescore_texts(backend, texts, "none"))
                    except Exception as failure:  # a shape that this transformers does not know, or that has no cache
                        print(f"{named}: left out ({type(failure).__name__})", flush=True)
                        continue
                    counts[f"{fault or 'sound'} {str(dtype).removeprefix('torch.')} {found.verdict}"] += 1
                    if (error := found.error) is not None:
                        ratios = f"{error.ratio:.2f} {error.sequence_ratio:.2f}"
                        worst = f"{error.worst_ratio:.1f} {error.second_ratio:.1f}"
                        print(f"{named}: {found.verdict} {ratios} {worst} k3 {found.k3}", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:4} {what}")


def drawn(model: Any, number: int) -> GivenText:
    """A text of 20 random ids and 64 that the model drew."""
    dice = torch.Generator().manual_seed(number)
    prompt = torch.randint(3, model.config.get_text_config().vocab_size, (1, 20), generator=dice)
    torch.manual_seed(number)
    ids = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, min_new_tokens=64, do_sample=True, top_k=0,
        pad_token_id=0,
    )  # fmt: skip
    return GivenText(tuple(ids[0].tolist()), 20)


RIGHT = DynamicLayer.update
BROKEN_FROM = 40  # tokens in the cache


def _off(change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Callable[..., Any]:
    """An update whose keys and values, once the cache holds so many tokens, are changed."""

    def update(self: Any, keys: torch.Tensor, values: torch.Tensor, *others: Any, **named: Any) -> Any:
        if self.get_seq_length() >= BROKEN_FROM:
            keys, values = change(keys, values)
        return RIGHT(self, keys, values, *others, **named)

    return update


FEW_KINDS = ("gpt2", "llama", "qwen3", "gemma", "phi3", "olmo2")
FAULTS = {
    "values 2 % too large": _off(lambda keys, values: (keys, values * 1.02)),
    "values in 8 bits": _off(lambda keys, values: (keys, values.to(torch.float8_e4m3fn).to(values.dtype))),
    "keys in 8 bits": _off(lambda keys, values: (keys.to(torch.float8_e4m3fn).to(keys.dtype), values)),
    "heads swapped": _off(lambda keys, values: (keys.flip(1), values)),
    "values lost": _off(lambda keys, values: (keys, torch.zeros_like(values))),
}


def figures(found: Rescore) -> tuple[str, ...]:
    """The cells of one verdict."""
    small = [
        "—" if value is None else f"{value:.1e}"
        for value in (found.mean_abs_difference, found.noise_mean_abs, found.k1, found.k3, found.noise_k3)
    ]
    error = "—" if found.error is None else f"{found.error.ratio:.2f} of {found.error.allowed:.2f}"
    drift = "—"
    if found.drift_low is not None and found.drift_high is not None:
        drift = f"[{found.drift_low:.1e}, {found.drift_high:.1e}]"
    share = "—" if found.share_over is None else f"{found.share_over:.2%}"
    return (
        str(found.positions),
        str(found.verdict or found.differs_by or "not judged"),
        error,
        *small,
        share,
        drift,
    )


if __name__ == "__main__":
    main()
