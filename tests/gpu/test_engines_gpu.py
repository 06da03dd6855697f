"""On a GPU every engine writes what plain PyTorch writes, and what an engine captured sees each step's own input."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.gpu,
    # float32 is what tells kernels apart here, and torch would rather have it narrower.
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),  # torch.compile's own, while it warms up
]

SHAPE = {
    "vocab_size": 499,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 3,
    "max_position_embeddings": 4096,
}
YUAN_ENDS = ("eod_token", "eos_token_id", "bos_token_id", "pad_token_id", "sep_token")
FAMILIES = [
    ("gemma", {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 64, "hidden_act": "gelu_pytorch_tanh"}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}),
    ("mistral", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "sliding_window": None}),
    ("qwen3", {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}),
    ("yuan", {"num_attention_heads": 4, **dict.fromkeys(YUAN_ENDS, 2)}),
    ("yuan", {"num_attention_heads": 4, **dict.fromkeys(YUAN_ENDS, 2), "reset_attention_mask": False}),
]
PROMPTS = {"one row": [300], "two rows": [70, 70], "left-padded": [90, 20, 51], "many rows": [40] * 20, "long": [1500]}


@pytest.fixture(scope="module")
def cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch.device("cuda")


def build(architecture, changes, device):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import kvbench.models  # noqa: F401 - registers Yuan

    torch.manual_seed(7)
    config = AutoConfig.for_model(architecture, **{**SHAPE, **changes})
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=1.5 / 16 if parameter.ndim > 1 else 0.2)
    return model.eval().to(memory_format=torch.channels_last)  # as loading lays out convolutions


def logits(model, mode, device, prompts, *, engine=None, kind="dynamic", attention="auto", bucket=1):
    """Logits of every step along one path, in float32.

    Where documents end at a token, it is in the middle of each prompt and among the tokens decoded.
    """
    import torch

    from kvbench.decoding.caches import CacheMaker
    from kvbench.decoding.engines.engine import PLAIN
    from kvbench.decoding.forward import Forward, make_batch
    from kvbench.decoding.loops import CachedLoop, NoCacheLoop
    from kvbench.decoding.sampling import Forced
    from kvbench.decoding.settings import SessionSettings
    from kvbench.decoding.token_path import follow
    from kvbench.passes import Buckets

    dice = torch.Generator().manual_seed(1)
    ids = [torch.randint(1, 499, (length,), generator=dice).tolist() for length in prompts]
    path = torch.randint(1, 499, (len(prompts), 20), generator=dice)
    end = getattr(model.config, "eod_token", None)
    if end is not None:
        for row in ids:
            row[len(row) // 2] = end
        path[0, 6] = path[-1, 11] = end
    forced = Forced(path.to(device))
    batch = make_batch(0, ids, 20, device)
    forward = Forward(model)
    arguments = (forward, forced, SessionSettings(attention, "sdpa", 0), 0)
    engine = engine or PLAIN
    if mode == "cached":
        caches = CacheMaker(forward, kind, kept=engine is not PLAIN)
        loop = CachedLoop(*arguments, engine=engine, caches=caches)
    else:
        loop = NoCacheLoop(*arguments, engine=engine, buckets=Buckets(bucket))
    return torch.stack(follow(loop, forced, batch))


def apart(first, second):
    return float((first - second).abs().max() / first.abs().max())


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize(("architecture", "changes"), FAMILIES)
def test_the_fused_step_computes_what_the_model_computes(cuda, architecture, changes, prompts):
    from kvbench.decoding.engines.fused.step import Fused

    model = build(architecture, changes, cuda)
    right = logits(model, "cached", cuda, PROMPTS[prompts])
    fused = logits(model, "cached", cuda, PROMPTS[prompts], engine=Fused(cuda), kind="static")
    assert apart(right, fused) < 2e-5


@pytest.mark.parametrize("prompts", ["one row", "left-padded"])
@pytest.mark.parametrize("mode", ["cached", "nocache"])
@pytest.mark.parametrize("engine", ["graph", "compiled"])
def test_a_repeated_pass_computes_what_plain_pytorch_computes(cuda, engine, mode, prompts):
    from kvbench.decoding.engines.compiled import Compiled
    from kvbench.decoding.engines.graph import Graph

    model = build(*FAMILIES[1], cuda)
    right = logits(model, mode, cuda, PROMPTS[prompts])
    made = Graph(cuda) if engine == "graph" else Compiled(cuda, "reduce-overhead")
    repeated = logits(model, mode, cuda, PROMPTS[prompts], engine=made, kind="static", bucket=64)
    assert apart(right, repeated) < 2e-5


@pytest.mark.parametrize("engine", ["graph", "compiled"])
def test_a_replayed_pass_is_told_to_take_memory_though_it_allocates_none(cuda, engine):
    import torch

    from kvbench.decoding.engines.compiled import Compiled
    from kvbench.decoding.engines.graph import Graph

    model = build(*FAMILIES[1], cuda)
    before = torch.cuda.memory_allocated(cuda)
    torch.cuda.reset_peak_memory_stats(cuda)
    logits(model, "nocache", cuda, [2000], bucket=64)
    plain = torch.cuda.max_memory_allocated(cuda) - before
    made = Graph(cuda) if engine == "graph" else Compiled(cuda, "reduce-overhead")
    logits(model, "nocache", cuda, [2000], engine=made, bucket=64)
    assert 0.3 * plain < made.replayed_bytes < 1.5 * plain


@pytest.mark.parametrize("prompts", ["one row", "left-padded"])
def test_grouped_attention_computes_what_sdpa_computes(cuda, prompts):
    model = build(*FAMILIES[0], cuda)
    right = logits(model, "cached", cuda, PROMPTS[prompts])
    grouped = logits(model, "cached", cuda, PROMPTS[prompts], kind="static", attention="grouped")
    assert apart(right, grouped) < 2e-5


def test_a_model_that_the_kernels_only_seem_to_know_is_refused(cuda):
    from kvbench.decoding.engines.fused.step import Fused
    from kvbench.errors import ModelUnavailable

    model = build(*FAMILIES[1], cuda)
    model.config.model_type = "gemma"  # whose norms multiply by 1 + the weight
    with pytest.raises(ModelUnavailable, match="its kernels are not what LlamaForCausalLM computes"):
        logits(model, "cached", cuda, [30], engine=Fused(cuda), kind="static")
