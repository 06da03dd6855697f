"""Every key knows when it has an effect; set where it has none, it is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvbench.arm import Arm
from kvbench.config.compose import load_config, sources
from kvbench.config.overrides import named_keys
from kvbench.config.rules import check, check_effects
from kvbench.config.schema import Config
from kvbench.errors import ConfigError
from kvbench.options import settings

# Keys that always have an effect, and why.
ALWAYS = {
    "model.name": "names the record and its folder",
    "model.weights": "says where the model comes from",
    "arms": "is what is measured",
    "workload.new_tokens": "is how far every run decodes, and every try of a search",
    "scaling.lengths": "makes a run one about growth",
    "frontier.axes": "makes a run one that searches for sizes",
    "device": "says where it runs, and which ceilings a script is held against",
    "threads": "says how many threads torch has, and which ceilings a script is held against",
    "launch": "says which process measures",
    "jobs": "says how many jobs a launcher runs; without one the command refuses it",
    "measure.exclusive": "says whom a run waits for",
    "resume": "says whether a finished run is repeated, single or in a sweep",
    "results_dir": "says where records go",
    "name": "names the folder",
    "title": "heads the page",
    "report": "says whether a page is written",
    "track": "says who gets the run once it has its record",
    "language": "says in which language it is written, and the terminal speaks",
    "arms[0].mode": "is what the arm does",
    "arms[0].habit": "is what the arm does besides; one that its mode cannot have is refused",
}
BARE = Config(arms=[Arm()])
KEYS = {key: metadata for key, _, metadata in (*settings(Config()), *settings(BARE))}

# For every other key: a value that is not its default, and what makes a run in which it does nothing.
ONE_ARM = {"arms": [Arm("cached")]}
RECOMPUTE = {"mode": "nocache"}
SCRIPT = {"model.weights": "scripted"}
OWN = {"model.weights": "python", "model.target": "mine:build"}
LISTED = {"arms": [Arm("nocache"), Arm("cached")]}
SEARCH = {"frontier.axes": ["batch"], "workload.prompt_tokens": 64}
LENGTHS = {"scaling.lengths": [8, 16, 24, 32]}
INEFFECTIVE: list[tuple[str, Any, dict[str, Any]]] = [
    ("model.id", "gpt2", {}),
    ("model.id", "gpt2", {"model.weights": "random", "model.path": "./gpt2"}),
    ("model.revision", "main", {}),
    ("model.path", "./gpt2", {}),
    ("model.path", "./gpt2", {"model.weights": "hub", "model.id": "gpt2"}),
    ("model.path", "./gpt2", {"model.weights": "random", "model.architecture": {"model_type": "gpt2"}}),
    ("model.target", "mine:build", {}),
    ("model.options", {"width": 8}, {}),
    ("model.dtype", "float16", SCRIPT),
    ("model.quantization", "int8", SCRIPT),
    ("model.quantization", "int8", OWN),
    ("model.device_map", "auto", SCRIPT),
    ("model.tensor_parallel", 2, {"model.weights": "python", "model.target": "m:f"}),
    ("model.device_map", "auto", {"model.weights": "random", "model.id": "gpt2"}),
    ("model.trust_remote_code", True, {}),
    ("model.architecture", {"model_type": "gpt2"}, {"model.weights": "hub", "model.id": "gpt2"}),
    *(
        (key, 2, {})
        for key in KEYS
        if KEYS[key]["help"].startswith("scripted: ") and not isinstance(KEYS[key]["default"], (str, bool))
    ),
    ("model.kernel", "gemm", {}),
    ("model.virtual_time", False, {}),
    ("model.fail_with", "oom", {}),
    ("model.sensors", "steady", {}),
    ("model.seed", 1, {}),
    ("mode", "cached", LISTED),
    ("cache", "static", LISTED),
    ("cache", "static", RECOMPUTE),
    ("cache", "static", OWN),
    ("engine", "compiled", LISTED),
    ("engine", "compiled", OWN),
    ("attention", "math", LISTED),
    ("attention", "math", OWN),
    ("compile_mode", "default", LISTED),
    ("compile_mode", "default", {}),
    ("bucket", 64, LISTED),
    ("bucket", 64, {"mode": "cached"}),
    ("bucket", 64, OWN),
    ("cache_tokens", 512, LISTED),
    ("cache_tokens", 512, {}),
    ("cache_tokens", 512, RECOMPUTE),
    ("cache_tokens", 512, {"mode": "generate", "cache": "static"}),
    ("workload.prompts", "file.txt", LENGTHS),
    ("workload.prompt", "Why?", LENGTHS),
    ("workload.prompt_tokens", 64, LENGTHS),
    ("workload.shared_tokens", 8, {"workload.batch_size": 2}),
    ("workload.shared_tokens", 8, {"workload.prompt_tokens": 64}),
    ("workload.batch_size", 2, SEARCH),
    ("workload.prefill_chunk", 8, RECOMPUTE),
    ("workload.stop", [1], SEARCH),
    ("workload.chat_template", True, SCRIPT),
    ("workload.chat_template", True, OWN),
    ("workload.chat_template", True, LENGTHS),
    ("workload.chat_template", True, {"workload.prompt_tokens": 64}),
    ("sampling.temperature", 0.7, SCRIPT),
    ("sampling.top_p", 0.9, {}),
    ("sampling.top_k", 5, {}),
    ("sampling.top_k", 5, {"sampling.temperature": 0.7, "sampling.top_p": 0.0}),
    ("sampling.repetition_penalty", 1.1, SCRIPT),
    ("sampling.seed", 1, {}),
    ("interrupt.steps", [3], {}),
    ("interrupt.message", "Why?", {}),
    ("assisted.model", "./draft", {"mode": "prompt_lookup"}),
    ("assisted.num_assistant_tokens", 4, {}),
    ("assisted.num_assistant_tokens_schedule", "heuristic_transient", {}),
    ("assisted.assistant_confidence_threshold", 0.0, {}),
    ("prompt_lookup.prompt_lookup_num_tokens", 4, {"mode": "assisted"}),
    ("prompt_lookup.max_matching_ngram_size", 3, {}),
    ("scaling.decode_tokens", 64, {}),
    ("frontier.resolution", 0.1, {}),
    ("frontier.memory_gib", 1.0, {}),
    ("frontier.timeout_s", 1.0, {}),
    ("frontier.max_context", 64, {}),
    ("frontier.max_context", 64, SEARCH),
    ("frontier.max_batch", 64, {}),
    ("frontier.max_batch", 64, {**SEARCH, "frontier.axes": ["context"]}),
    ("stream.interval", 2, SEARCH),
    ("shapes.hidden_states", True, SCRIPT),
    ("shapes.hidden_states", True, SEARCH),
    ("shapes.attentions", True, OWN),
    ("check.agreement", "full", {"mode": "cached"}),
    ("check.agreement", "full", SEARCH),
    ("check.reference", "float64", SCRIPT),
    ("check.reference", "float64", SEARCH),
    ("check.rescore", True, SEARCH),
    ("trace.probabilities", True, SCRIPT),
    ("trace.probabilities", True, SEARCH),
    ("trace.top_k", 3, {}),
    ("measure.blocks", 9, SEARCH),
    ("measure.warmup", 2, SEARCH),
    ("measure.stopping", "budget", SEARCH),
    ("measure.precision", 0.02, {}),
    ("measure.precision", 0.02, {"measure.stopping": "budget"}),
    ("measure.max_blocks", 80, {}),
    ("measure.max_blocks", 80, {"measure.stopping": "budget"}),
    ("measure.budget_s", 5.0, {}),
    ("measure.timeout_s", 5.0, {"launch": "inline"}),
    ("measure.timeout_s", 5.0, SEARCH),
    ("measure.energy_s", 1.0, SEARCH),
    ("measure.seed", 1, {"mode": "cached"}),
    ("measure.seed", 1, SEARCH),
    ("audit", True, SEARCH),
    ("arms[0].cache", "static", {"arms": [Arm("nocache", cache="static")]}),
    ("arms[0].cache", "static", {**OWN, "arms": [Arm("cached", cache="static")]}),
    ("arms[0].engine", "compiled", {**OWN, "arms": [Arm("cached", engine="compiled")]}),
    ("arms[0].attention", "math", {**OWN, "arms": [Arm("cached", attention="math")]}),
    ("arms[0].compile_mode", "default", {"arms": [Arm("cached", compile_mode="default")]}),
    ("arms[0].bucket", 64, {"arms": [Arm("cached", bucket=64)]}),
    ("arms[0].cache_tokens", 512, {"arms": [Arm("cached", cache_tokens=512)]}),
]


def config_of(changes: dict[str, Any]) -> Config:
    config = Config()
    config.model.weights = "embedded"
    config.model.name = "embedded"
    for key, value in changes.items():
        owner: Any = config
        *groups, last = key.split(".")
        for group in groups:
            owner = getattr(owner, group)
        setattr(owner, last, value)
    return config


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_key_has_a_condition_or_a_reason_to_have_none() -> None:
    assert {key for key, metadata in KEYS.items() if not metadata["effective"]} == set(ALWAYS)


def test_every_condition_is_tried() -> None:
    # step_lane has no value but its default and "off", which ask for nothing where nothing is timed.
    assert set(KEYS) - set(ALWAYS) - {"measure.step_lane"} == {key for key, _, _ in INEFFECTIVE}


@pytest.mark.parametrize(("key", "value", "run"), INEFFECTIVE, ids=str)
def test_a_key_is_refused_by_name_where_it_has_no_effect(key: str, value: Any, run: dict[str, Any]) -> None:
    check_effects(config_of(run if not key.startswith("arms[") else {**run, "arms": None}))
    config = config_of({**run, **({} if key.startswith("arms[") else {key: value})})
    with pytest.raises(ConfigError) as refused:
        check_effects(config, named_keys([f"{key}=…"]))
    text = str(refused.value)
    written = key if isinstance(value, dict) else f"{key}={shown(value)}"
    assert text.startswith(f"{written}: has no effect ")
    assert text.endswith("remove it")
    assert "\n" not in text
    assert "{" not in text.removeprefix(f"{key}={shown(value)}")


EFFECTIVE = [
    {"model.weights": "hub", "model.id": "gpt2", "model.revision": "main", "model.trust_remote_code": True},
    {"model.weights": "random", "model.id": "gpt2", "model.seed": 3},
    {"model.weights": "path", "model.path": "./gpt2", "model.dtype": "float16", "model.device_map": "auto"},
    {**SCRIPT, "model.cached_step_s": 0.5, "model.noise": 0.1, "model.seed": 2, "model.memory_bytes": 9},
    {**SCRIPT, "model.memory_bytes": 9, "model.fail_with": "crash", "attention": "math"},
    {**OWN, "model.options": {"width": 8}, "model.dtype": "float16", "workload.prefill_chunk": 4},
    {"mode": "cached", "cache": "static", "engine": "compiled", "compile_mode": "default", "cache_tokens": 512},
    {"mode": "both", "bucket": 64, "cache": "static", "cache_tokens": 512, "workload.prefill_chunk": 8},
    {"arms": [Arm("nocache", engine="compiled", bucket=32), Arm("generate", cache="static")]},
    {"sampling.temperature": 0.7, "sampling.top_p": 0.9, "sampling.top_k": 5, "sampling.seed": 1},
    {"sampling.repetition_penalty": 1.2},
    {"mode": "interrupted", "interrupt.steps": [3], "interrupt.message": "Why?"},
    {"mode": "assisted", "assisted.model": "./draft", "assisted.num_assistant_tokens": 4, "cache": "full"},
    {"mode": "prompt_lookup", "prompt_lookup.max_matching_ngram_size": 3},
    {"mode": "prefix", "workload.prompt_tokens": 64, "workload.shared_tokens": 8, "workload.batch_size": 2},
    {**LENGTHS, "scaling.decode_tokens": 0, "workload.batch_size": 2},
    {**SEARCH, "frontier.max_batch": 8, "frontier.memory_gib": 1.0, "stream.interval": 0, "measure.step_lane": False},
    {**SEARCH, "frontier.axes": ["context", "batch"], "frontier.max_context": 99, "workload.batch_size": 2},
    {"mode": "cached", "check.agreement": "full", "check.reference": "float64"},
    {"mode": "cached", "check.agreement": "none", "audit": True, "measure.seed": 3},
    {"trace.probabilities": True, "trace.top_k": 3, "measure.seed": 3, "stream.interval": 4},
    {"measure.stopping": "precision", "measure.precision": 0.1, "measure.max_blocks": 9, "measure.budget_s": 5.0},
    {"measure.stopping": "budget", "measure.budget_s": 5.0, "measure.timeout_s": 5.0},
]


@pytest.mark.parametrize("run", EFFECTIVE, ids=str)
def test_a_key_is_taken_where_it_has_one(run: dict[str, Any]) -> None:
    check(config_of(run))


class TestWhereAValueComesFrom:
    def test_a_ready_file_may_describe_more_of_a_model_than_is_used(self) -> None:
        for overrides in (["model=gpt2"], ["model=gpt2", "model.weights=random"]):
            load_config(overrides, sources())
        load_config(["model=gpt2", "model.weights=path", "model.path=./mine"], sources())

    @pytest.mark.parametrize(
        "overrides",
        [
            ["model=gpt2", "model.architecture.n_layer=2"],
            ["model=gpt2", "model.weights=random", "model.id=other/gpt2"],
            ["model=gpt2", "model.weights=random", "model.revision=main"],
        ],
        ids=str,
    )
    def test_what_is_typed_of_a_model_must_be_used(self, overrides: list[str]) -> None:
        with pytest.raises(ConfigError, match="has no effect with "):
            load_config(overrides, sources())

    def test_a_model_that_is_another_than_its_file_says_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"model\.id=openai-community/gpt2: has no effect with model"):
            load_config(["model=gpt2", "model.weights=embedded"], sources())

    def test_what_a_file_set_is_set_back(self) -> None:
        with pytest.raises(ConfigError, match=r"top_p=0.95: .*temperature=0, .*, or set sampling\.top_p=1$"):
            load_config(["sampling=nucleus", "sampling.temperature=0"], sources())

    def test_the_default_may_be_written_anywhere(self) -> None:
        load_config(["sampling.top_p=1", "measure.precision=0.01", "mode=nocache", "cache=dynamic"], sources())


def test_the_walk_does_not_depend_on_which_of_several_arms_a_key_is_of() -> None:
    arms = [Arm("nocache", engine="compiled"), Arm("cached", compile_mode="default")]
    with pytest.raises(ConfigError, match=r"^arms\[1\]\.compile_mode=default: has no effect without engine=compiled"):
        check_effects(replace(Config(), arms=arms, model=config_of({}).model))
