"""What was meant by a key, value or word that does not exist is said, ready to be typed."""

from __future__ import annotations

import pytest

from kvbench.commands.arguments import refuse_flags, unknown_word
from kvbench.config.compose import load_config, sources
from kvbench.config.conf_files import ready_files
from kvbench.config.schema import Config
from kvbench.config.spelling import ELSEWHERE, KEYS, OTHER_NAMES, OTHER_VALUES, meant_keys, stray_word
from kvbench.errors import ConfigError
from kvbench.options import settings

MEANT = [
    ("new_tokens=32", "workload.new_tokens=32"),
    ("max_new_tokens=32", "workload.new_tokens=32"),
    ("num_tokens=32", "workload.new_tokens=32"),
    ("batch_size=8", "workload.batch_size=8"),
    ("bs=8", "workload.batch_size=8"),
    ("prompt=Hi there", "workload.prompt='Hi there'"),
    ("temperature=0.7", "sampling.temperature=0.7"),
    ("model_name=gpt2", "model=gpt2"),
    ("seq_len=64", "workload.prompt_tokens=64"),
    ("Mode=cached", "mode=cached"),
    ("modes=cached", "mode=cached"),
    ("seed=3", "model.seed=3 or sampling.seed=3 or measure.seed=3"),
    ("workload.newtokens=8", "workload.new_tokens=8"),
    ("workload.new-tokens=8", "workload.new_tokens=8"),
    ("measure.block=8", "measure.blocks=8"),
    ("+new_tokens=8", "workload.new_tokens=8"),
    ("mode=no_cache", "mode=nocache"),
    ("mode=kv_cache", "mode=cached"),
    ("mode=speculative", "mode=assisted"),
    ("draft_model=gpt2", "assisted.model=gpt2"),
    ("use_cache=false", "mode=nocache"),
    ("compile=true", "engine=compiled"),
    ("quantize=4bit", "model.quantization=nf4"),
    ("gpu=1", "device=cuda:1"),
    ("device=gpu", "device=cuda"),
    ("timeout=5", "measure.timeout_s=5"),
    ("model=gpt-2", "model=gpt2"),
    ("model=GPT2", "model=gpt2"),
    ("experiment=scalling", "experiment=scaling"),
    ("engine=compile", "engine=compiled"),
    ("cache=Static", "cache=static"),
    ("attention=flash2", "attention=flash_attention_2"),
    ("attention=falsh", "attention=flash"),
    ("check.agreement=ful", "check.agreement=full"),
    ("model.dtype=fp8", "model.quantization=int8_weight_only for the weights, or cache=fp8 for the cache"),
    ("arms=[{mode: cached, engine: compile}]", "arms[0].engine=compiled"),
    ("arms=[{mode: cached},{mode: nocache, buckets: 8}]", "bucket"),
]


@pytest.mark.parametrize(("typed", "meant"), MEANT)
def test_the_nearest_key_or_value_is_named_with_what_was_typed(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config([typed], sources())
    assert f"did you mean {meant}?" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("typed", ["zzz=1", "model=gemma7b", "check.reference=float16", "model.dtype=int3"])
def test_what_nothing_is_near_to_gets_no_suggestion(typed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config([typed], sources())
    assert "did you mean" not in str(refused.value)


def test_an_unknown_model_is_told_how_any_other_is_named() -> None:
    with pytest.raises(ConfigError, match=r"allowed: embedded, .*; any other: model=ORG/NAME of the hub, or model="):
        load_config(["model=gpt-2"], sources())


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--mode", "cached"], "--mode: settings are written KEY=VALUE; did you mean mode=cached?"),
        (["--mode=cached"], "--mode=cached: settings are written KEY=VALUE; did you mean mode=cached?"),
        (["-mode", "cached"], "did you mean mode=cached?"),
        (["--new-tokens", "32"], "did you mean workload.new_tokens=32?"),
        (["model=gpt2", "--batch-size", "8"], "did you mean workload.batch_size=8?"),
        (["--temperature"], "did you mean sampling.temperature=…?"),
    ],
)
def test_an_option_of_another_program_s_style_is_a_setting(arguments: list[str], meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_flags(arguments)
    assert str(refused.value).endswith(meant)


@pytest.mark.parametrize(
    "flag",
    [
        *("-m", "--multirun", "-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name", "-c", "--cfg"),
        *("-h", "--help", "--hydra-help", "--version", "--resolve", "-p", "--package", "--run", "-r", "-sc", "-i"),
        *("--info", "--shell-completion", "--experimental-rerun", "--unknown"),
    ],
)
def test_hydras_own_options_are_left_alone(flag: str) -> None:
    refuse_flags([flag, "value"])


@pytest.mark.parametrize(
    ("word", "following", "said"),
    [
        ("shw", ["results"], "shw: no such command; did you mean show? there are report, "),
        ("reprot", [], "did you mean report?"),
        ("bench", [], "bench: no such command; a run needs none, leave bench out; there are report, "),
        ("mode", ["cached"], "mode: settings are written KEY=VALUE; did you mean mode=cached?"),
        ("new_tokens", ["32"], "did you mean workload.new_tokens=32?"),
        ("mode", ["device=cpu"], "did you mean mode=…?"),
        ("gpt2", [], "gpt2: settings are written KEY=VALUE; did you mean model=gpt2?"),
        ("cached", [], "cached: settings are written KEY=VALUE; did you mean mode=cached?"),
        ("Qwen/Qwen3-0.6B", [], "did you mean model=Qwen/Qwen3-0.6B?"),
        (
            "xyzzy",
            [],
            "xyzzy: no such command; there are report, compare, show, export, query, push, explain, watch, rescore,"
            " doctor, help; a run takes KEY=VALUE",
        ),
    ],
)
def test_a_first_word_that_is_no_command(word: str, following: list[str], said: str) -> None:
    assert said in str(unknown_word(word, following))


def test_a_word_between_settings_is_one_too() -> None:
    with pytest.raises(ConfigError, match=r"new_tokens: settings are written KEY=VALUE; did you mean workload"):
        load_config(["mode=cached", "new_tokens", "32"], sources())
    assert stray_word("xyzzy") is None


def test_the_tables_name_what_there_is() -> None:
    groups = {"model"}
    assert set(OTHER_NAMES.values()) <= {*KEYS, *groups}
    assert not set(OTHER_NAMES) & set(KEYS)
    choices = {key: metadata["choices"] for key, _, metadata in settings(Config())}
    for key, values in OTHER_VALUES.items():
        assert key == "device" or set(values.values()) <= {*(choices[key] or ()), *ready_files(key)}
    assert {key for key, _ in ELSEWHERE} <= set(KEYS)


def test_every_key_is_found_by_its_last_part_and_without_its_underscores() -> None:
    for key in KEYS:
        last = key.rpartition(".")[2]
        assert key in (found := meant_keys(last)) or found[0] in (last, OTHER_NAMES.get(last)), key
        assert meant_keys(key.replace("_", "-"))[0].replace("_", "") == key.replace("_", ""), key


@pytest.mark.parametrize("override", ["cache=kvpress", "arms=[{mode: cached, cache: kvpress}]"])
def test_what_cannot_be_had_is_refused_with_its_reason(override: str) -> None:
    with pytest.raises(ConfigError, match=r"cache=kvpress: kvpress up to .* runs on no version that kvbench supports"):
        load_config([override], sources())
