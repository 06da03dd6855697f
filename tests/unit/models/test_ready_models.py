"""The models in conf/model have the shapes of the checkpoints that they name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from kvbench.config.compose import load_config, sources
from kvbench.config.conf_files import conf_folder
from kvbench.model_facts import facts_from_config
from kvbench.models.sizing import predicted_weight_size

FILES = sorted((conf_folder() / "model").glob("*.yaml"))
# Published sizes, tied embeddings counted once; bytes of keys and values of one token at the checkpoint's type.
CHECKPOINTS = {
    "gemma2b": ("google/gemma-2b-it", 2_506_172_416, "bfloat16", 2 * 18 * 1 * 256 * 2, 8192),
    "yuan2b": ("IEITYuan/Yuan2-2B-hf", 2_088_724_480, "bfloat16", 2 * 24 * 32 * 64 * 2, 8192),
    "llama3-8b": ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248, "bfloat16", 2 * 32 * 8 * 128 * 2, 8192),
    "qwen3-0.6b": ("Qwen/Qwen3-0.6B", 596_049_920, "bfloat16", 2 * 28 * 8 * 128 * 2, 40960),
    "mistral-7b": ("mistralai/Mistral-7B-Instruct-v0.3", 7_248_023_552, "bfloat16", 2 * 32 * 8 * 128 * 2, 32768),
    "gpt2": ("openai-community/gpt2", 124_439_808, "float32", 2 * 12 * 12 * 64 * 4, 1024),
    "smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "bfloat16", 2 * 30 * 3 * 64 * 2, 8192),
}


def composed(name, *overrides):
    return load_config([f"model={name}", *overrides], sources()).model


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_shape_is_that_of_the_published_checkpoint(name):
    published_id, parameters, dtype, kv_bytes_per_token, max_context = CHECKPOINTS[name]
    spec = composed(name)
    shape = dict(spec.architecture)
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    facts = facts_from_config(config, name=name, source="hub", dtype=str(config.dtype).removeprefix("torch."))
    assert published_id == spec.id
    assert parameters == predicted_weight_size(config, torch.bfloat16).parameters
    assert (dtype, kv_bytes_per_token, max_context) == (facts.dtype, facts.kv_bytes_per_token, facts.max_context)


@pytest.mark.parametrize(
    ("name", "theta"),
    [
        ("gemma2b", 10_000),
        ("llama3-8b", 500_000),
        ("qwen3-0.6b", 1_000_000),
        ("mistral-7b", 1_000_000),
        ("smollm2", 100_000),
    ],
)
def test_positions_rotate_at_the_published_base(name, theta):
    shape = dict(composed(name).architecture)
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    assert config.rope_parameters["rope_theta"] == theta


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_says_what_it_is_and_bears_its_own_name(file: Path):
    needed = {
        "hub": ["model.id=org/name"],
        "path": ["model.path=folder"],
        "python": ["model.target=package.module:factory"],
    }.get(file.stem, [])
    assert file.read_text().startswith("# ")
    assert composed(file.stem, *needed).name == file.stem


def test_every_model_that_people_ask_for_is_ready():
    expected = {"embedded", "gemma2b", "hub", "path", "scripted", *CHECKPOINTS}
    assert expected <= {file.stem for file in FILES}


def test_mistral_has_no_sliding_window():
    shape = dict(composed("mistral-7b").architecture)
    assert AutoConfig.for_model(shape.pop("model_type"), **shape).sliding_window is None
