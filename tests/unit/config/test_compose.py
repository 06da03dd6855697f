"""A configuration is composed, checked, and refused in one line that names the key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kvbench.config.compose import load_config, sources, sweep_points, to_yaml
from kvbench.config.conf_files import conf_folder
from kvbench.errors import ConfigError

REFUSED = [
    ("mode=bogus", "mode=bogus: not known; allowed: assisted, both, cached"),
    ("model=nope", "model=nope: not known; allowed: embedded"),
    ("engine=warp", "engine=warp: not known; allowed: compiled, eager, fused, graph"),
    ("model.foo=1", "model.foo: no such key"),
    ("+model.foo=1", "model.foo: no such key"),
    ("workloads.new_tokens=1", "workloads.new_tokens: no such key; did you mean workload.new_tokens=1?"),
    ("workload.new_token=9", "workload.new_token: no such key; did you mean workload.new_tokens=9?"),
    ("workload.new_tokens=abc", "workload.new_tokens=abc: must be of type integer"),
    ("workload.new_tokens=1.5", "workload.new_tokens=1.5: must be of type integer"),
    ("workload.new_tokens=null", "workload.new_tokens=null: needs a value"),
    ("workload.new_tokens=0", "workload.new_tokens=0: must be at least 2"),
    ("workload.new_tokens=-5", "workload.new_tokens=-5: must be at least 2"),
    ("workload.prompt_tokens=0", "workload.prompt_tokens=0: must be at least 1"),
    ("workload.batch_size=-1", "workload.batch_size=-1: must be at least 1"),
    ("workload.batch_size=100000000", "workload.batch_size=100000000: must be at most 65536"),
    ("sampling.seed=100000000000000000000", "sampling.seed=100000000000000000000: must be at most 9223372036854775807"),
    ("threads=100000", "threads=100000: must be at most 4096"),
    ("audit=perhaps", "audit=perhaps: must be true or false"),
    ("arms={mode: cached}", "arms=…: of another form than the key's value"),
    ("check=half", "check=half: not known; allowed: agreement, full, none, reference"),
    ("check.reference=float16", "check.reference=float16: not known; allowed: none, float32, float64"),
    ("measure.blocks=0", "measure.blocks=0: must be at least 1"),
    ("sampling.top_p=1.5", "sampling.top_p=1.5: must be at most 1"),
    ("sampling.temperature=nan", "sampling.temperature=nan: must be a finite number"),
    ("model.dtype=int3", "model.dtype=int3: not known; allowed: auto, float64"),
    ("device=gpu", "device=gpu: not known; did you mean device=cuda? allowed: auto, cpu, cuda, cuda:N, mps"),
    ("workload.stop=never", "workload.stop=never: not known; allowed: ignore, tokenizer"),
    ("workload.stop=[1.5]", r"workload.stop=[1.5]: not known"),
    ("workload.stop=['']", "workload.stop=['']: not known"),
    ("workload.stop=[1,2", "not in Hydra's grammar"),
    ("workload.prompt_tokens=1,2", "workload.prompt_tokens=1,2: several values are a sweep, which needs -m"),
    ("arms=[]", "arms=[]: name at least one arm"),
    ("arms=[{mode: bogus}]", "arms[0].mode=bogus: not known; allowed: nocache"),
    ("arms=[{mod: cached}]", "arms[0].mod: no such key; did you mean mode? allowed: mode, cache,"),
    ("arms=[{mode: nocache, cache: dynamic}]", "arms[0].cache=dynamic: has no effect without a mode that keeps"),
    ("name=../elsewhere", "name=../elsewhere: must be a single folder name"),
    ("results_dir=''", "results_dir is empty"),
    ("model=hub", "model.id is not set"),
    ("model=path", "model.path is not set"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_bad_input_is_refused_in_one_line_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([override], sources())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["workload.prompts=x", "workload.prompt_tokens=5"], "give one of them"),
        (["workload.chat_template=true", "workload.prompt_tokens=5"], "no effect with workload.prompt_tokens"),
        (["measure.stopping=precision", "mode=cached"], "needs two arms"),
        (["measure.stopping=precision", "measure.blocks=4"], "stopping=precision needs at least 5"),
        (["audit=true", "measure.blocks=4"], "audit=true needs at least 5"),
        (["measure.stopping=precision", "measure.max_blocks=3"], "must be at least measure.blocks=8"),
        (["model=scripted", "workload.stop=tokenizer"], "the scripted model has no tokenizer"),
        (["model=scripted", "workload.stop=['<eod>']"], "the scripted model has no tokenizer"),
        (["workload.prompt=Why?", "workload.prompt_tokens=8"], "give one of them"),
        (["workload.prompt=Why?", "workload.prompts=file.txt"], "give one of them"),
        (["workload.prompt=''"], "workload.prompt is empty"),
        (["interrupt.steps=[3]"], r"interrupt\.steps=\[3\]: has no effect without an interrupted arm; set mode="),
        (
            ["interrupt.message=Why?", "mode=cached"],
            r"message=Why\?: has no effect without an interrupted arm",
        ),
        (
            ["mode=interrupted", "workload.new_tokens=16", "interrupt.steps=[8,16]"],
            "16 is outside the run.* from 1 to 15",
        ),
        (["mode=interrupted", "interrupt.steps=[0]"], "0 is outside the run"),
        (["mode=interrupted", "interrupt.steps=[]"], "name at least one step"),
        (["mode=interrupted", "interrupt.steps=5"], r"interrupt\.steps: must be a list, such as \[1,2\]"),
        (["mode=resumed", "interrupt.message=null"], "mode=resumed needs a text"),
        (["arms=[{mode: generate},{mode: resumed}]", "interrupt.message=Why?"], "mode generate cannot take a message"),
        (["arms=[{mode: cached, habit: dropped_cache}]"], "mode cached cannot have the habit dropped_cache"),
        (["arms=[{mode: generate, habit: host_read}]"], "mode generate cannot have the habit host_read"),
        (["arms=[{mode: cached, habit: all}]"], "mode cached cannot have the habit dropped_cache"),
        (["model=gpt2", "model.weights=random", "model.device_map=auto"], "no effect with model.weights=random"),
        (["check.reference=float32", "check=none"], r"check\.reference=float32: not with check.agreement=none"),
        (["check=reference", "model=scripted"], "no effect with model.weights=scripted"),
        (["check=reference", "model.quantization=int8"], "float32: not with model.quantization=int8"),
        (["check=reference", "model.device_map=auto"], "float32: not with model.device_map=auto"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides, sources())


class TestComposition:
    @pytest.mark.parametrize(
        ("override", "agreement", "reference"),
        [
            ("check=agreement", "few", "none"),
            ("check=full", "full", "none"),
            ("check=reference", "full", "float32"),
            ("check=none", "none", "none"),
            ("check.agreement=full", "full", "none"),
            ("check.agreement=false", "none", "none"),
        ],
    )
    def test_of_a_check_is_a_file_of_its_group_or_its_keys(self, override: str, agreement: str, reference: str) -> None:
        check = load_config([override], sources()).check
        assert (agreement, reference) == (check.agreement, check.reference)

    def test_of_nothing_is_both_modes_on_the_embedded_model(self) -> None:
        config = load_config([], sources())
        assert (config.model.name, config.model.weights, config.mode) == ("embedded", "embedded", "both")

    def test_accepts_the_short_names_of_types(self) -> None:
        assert load_config(["model.dtype=bf16"], sources()).model.dtype == "bfloat16"

    def test_of_any_hub_id_needs_no_file(self) -> None:
        config = load_config(["model=hub", "model.id=Qwen/Qwen3-0.6B"], sources())
        assert (config.model.weights, config.model.id) == ("hub", "Qwen/Qwen3-0.6B")

    def test_finds_a_model_file_in_a_directory_of_the_users(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.yaml").write_text("name: mine\nweights: path\npath: /somewhere\n")
        config = load_config(["model=mine"], sources(config_dir=str(tmp_path)))
        assert (config.model.name, config.model.path) == ("mine", "/somewhere")

    def test_names_the_file_and_the_key_when_the_users_file_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.yaml").write_text("name: mine\nweigths: path\n")
        with pytest.raises(
            ConfigError, match=r"model/mine\.yaml: model\.weigths: no such key; did you mean model\.weights"
        ):
            load_config(["model=mine"], sources(config_dir=str(tmp_path)))

    def test_says_when_the_users_file_is_not_yaml(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "mine.yaml").write_text("name: [mine\n")
        with pytest.raises(ConfigError, match="not valid YAML"):
            load_config(["model=mine"], sources(config_dir=str(tmp_path)))

    def test_refuses_a_folder_that_is_not_there(self) -> None:
        with pytest.raises(ConfigError, match=r"--config-dir /no/such: no such folder"):
            sources(config_dir="/no/such")

    def test_of_a_runs_own_config_gives_it_again(self, tmp_path: Path) -> None:
        config = load_config(["workload.stop=[1,2]", "arms=[{mode: cached},{mode: generate}]"], sources())
        (tmp_path / "config.yaml").write_text(to_yaml(config))
        assert config == load_config([], sources(config_path=str(tmp_path)))


class TestSweeps:
    def test_take_every_combination_in_order(self) -> None:
        points = list(sweep_points(["mode=cached,both", "workload.new_tokens=range(4,6)"], sources()))
        assert points == [
            ("mode=cached", "workload.new_tokens=4"),
            ("mode=cached", "workload.new_tokens=5"),
            ("mode=both", "workload.new_tokens=4"),
            ("mode=both", "workload.new_tokens=5"),
        ]

    def test_expand_a_glob_over_the_files_of_a_group(self) -> None:
        points = [point for (point,) in sweep_points(["mode=glob(nocache*)"], sources())]
        assert points == ["mode=nocache", "mode=nocache_naive"]

    def test_refuse_launchers_that_would_share_the_device(self) -> None:
        with pytest.raises(ConfigError, match="hydra/launcher=joblib"):
            sweep_points(["hydra/launcher=joblib"], sources())


def test_a_quantised_cache_is_not_filled_in_pieces() -> None:
    with pytest.raises(ConfigError, match=r"workload\.prefill_chunk=8: .*: use another cache than fp8"):
        load_config(["cache=fp8", "mode=cached", "workload.prefill_chunk=8"], sources())


def test_a_static_cache_of_a_given_length_holds_the_long_decode_of_a_scaling_run_too() -> None:
    lengths = ["mode=cached", "cache=static", "scaling.lengths=[8,16,24,32]", "workload.new_tokens=8"]
    with pytest.raises(ConfigError, match=r"cache_tokens=64: .* which needs 264"):
        load_config([*lengths, "cache_tokens=64"], sources())
    assert 264 == load_config([*lengths, "cache_tokens=264"], sources()).cache_tokens


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=all_modes", "workload.new_tokens=5"],
        ["model=gpt2", "model.weights=random", "+model.architecture.note=2"],
        ["model=scripted", "arms=[{mode: cached}]", "measure=quick"],
    ],
    ids=" ".join,
)
def test_a_composition_that_the_tests_keep_is_the_one_that_hydra_makes(tmp_path: Path, overrides: list[str]) -> None:
    """Only that of the shipped files is kept; see `compositions.py` beside `conftest.py`."""
    shutil.copytree(conf_folder(), tmp_path / "conf")
    expected = load_config(overrides, sources(config_path=str(tmp_path / "conf")))
    for _ in range(2):
        assert expected == load_config(overrides, sources())
