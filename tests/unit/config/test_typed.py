"""What people type first works: a hub id or a folder as the model, modes as arms, new keys in open mappings."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.arm import Arm
from kvbench.config.compose import load_config, load_points, sources, sweep_points
from kvbench.config.overrides import in_grammar, in_hydras_terms
from kvbench.config.schema import Config
from kvbench.errors import ConfigError, Mistyped
from kvbench.plan import make_plan

FOLDERS = sources().folders


class TestAModel:
    @pytest.mark.parametrize(
        ("typed", "composed"),
        [
            ("model=Qwen/Qwen3-0.6B", ["model=hub", "model.id='Qwen/Qwen3-0.6B'"]),
            ("model='Qwen/Qwen3-0.6B'", ["model=hub", "model.id='Qwen/Qwen3-0.6B'"]),
            ("model=./folder", ["model=path", "model.path='./folder'"]),
            ("model=../a/b c", ["model=path", "model.path='../a/b c'"]),
            (r"model='/models/it\'s'", ["model=path", r"model.path='/models/it\'s'"]),
            ("model=~/models/x", ["model=path", "model.path='~/models/x'"]),
            ("model=there", ["model=path", "model.path='there'"]),
            ("model=there/below", ["model=path", "model.path='there/below'"]),
            ("model=gpt2", ["model=gpt2"]),
            ("model=./gpt2", ["model=path", "model.path='./gpt2'"]),  # named like a ready file, and a folder
            ("model=https://huggingface.co/Qwen/Qwen3-0.6B", ["model=hub", "model.id='Qwen/Qwen3-0.6B'"]),
            ("model=gpt-2", ["model=gpt-2"]),
            ("model=null", ["model=null"]),
            ("model.id=a/b", ["model.id=a/b"]),
        ],
    )
    def test_is_a_hub_id_a_folder_or_a_ready_file(
        self, typed: str, composed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "there" / "below").mkdir(parents=True)
        (tmp_path / "gpt2").mkdir()  # a ready file comes before a folder of its name
        assert composed == in_hydras_terms([typed], FOLDERS)

    def test_in_a_folder_of_the_users_files_is_that_file(self, tmp_path: Path) -> None:
        (tmp_path / "model" / "ours").mkdir(parents=True)
        (tmp_path / "model" / "ours" / "small.yaml").write_text("name: small\nweights: embedded\n")
        config = load_config(["model=ours/small"], sources(config_dir=str(tmp_path)))
        assert ("small", "embedded") == (config.model.name, config.model.weights)

    def test_has_the_record_s_name_that_model_hub_and_model_path_give_it(self) -> None:
        for typed, written in (
            (["model=Qwen/Qwen3-0.6B"], ["model=hub", "model.id=Qwen/Qwen3-0.6B"]),
            (["model=./folder"], ["model=path", "model.path=./folder"]),
        ):
            assert load_config(typed, sources()) == load_config(written, sources())
        assert "Qwen--Qwen3-0.6B" == make_plan(load_config(["model=Qwen/Qwen3-0.6B"], sources())).model_name

    def test_is_a_point_of_a_sweep(self) -> None:
        points = list(sweep_points(["model=Qwen/Qwen3-0.6B,gemma2b,./mine", "workload.new_tokens=4,5"], sources()))
        configs = [config for config in load_points(points, sources()) if isinstance(config, Config)]
        assert ("model=Qwen/Qwen3-0.6B", "workload.new_tokens=4") == points[0]
        assert ["Qwen/Qwen3-0.6B"] * 2 + ["google/gemma-2b-it"] * 2 + [None] * 2 == [each.model.id for each in configs]


class TestOneChoice:
    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            (
                "mode=[cached,nocache]",
                "both in one run are arms=[cached,nocache]; one run after the other is -m mode=c",
            ),
            ("cache=[static,dynamic]", "takes one choice; one run after the other is -m cache=static,dynamic"),
            ("model=Qwen/Qwen3-0.6B@main", "write model=Qwen/Qwen3-0.6B model.revision=main"),
            ("+arms.0.mode=cached", "reaches into a list that is not there; give the whole, arms=[{mode: cached}]"),
        ],
    )
    def test_is_not_the_last_of_several_without_a_word(self, typed: str, said: str) -> None:
        with pytest.raises(Mistyped) as refused:
            load_config([typed], sources())
        assert said in str(refused.value)

    def test_is_not_asked_of_experiments(self) -> None:
        assert load_config(["experiment=[all_modes]", "model=embedded"], sources()).arms


class TestArms:
    def test_may_be_words_and_mappings(self) -> None:
        config = load_config(["arms=[cached,{mode: nocache, bucket: 64, attention: math},nocache]"], sources())
        assert [
            Arm("cached"),
            Arm("nocache", attention="math", bucket=64),
            Arm("nocache"),
        ] == config.arms

    def test_of_a_mode_that_is_none_are_told_the_nearest(self) -> None:
        with pytest.raises(ConfigError, match=r"arms\[1\]\.mode=nocach: .* did you mean arms\[1\]\.mode=nocache\?"):
            load_config(["arms=[cached,nocach]"], sources())

    def test_are_points_of_a_sweep(self) -> None:
        points = list(sweep_points(["arms=[cached],[nocache,cached]"], sources()))
        configs = [config for config in load_points(points, sources()) if isinstance(config, Config)]
        assert [1, 2] == [len(each.arms or ()) for each in configs]


@pytest.mark.parametrize(
    ("override", "architecture"),
    [
        ("model.architecture={n_layer: 2, attn_pdrop: 0.5}", {"n_layer": 2, "attn_pdrop": 0.5}),
        ("model.architecture.attn_pdrop=0.5", {"n_layer": 12, "attn_pdrop": 0.5}),
        ("++model.architecture.attn_pdrop=0.5", {"n_layer": 12, "attn_pdrop": 0.5}),
    ],
)
def test_an_architecture_takes_keys_that_its_file_lacks(override: str, architecture: dict[str, float]) -> None:
    config = load_config(["model=gpt2", "model.weights=random", override], sources())
    assert {"model_type": "gpt2", **architecture}.items() <= config.model.architecture.items()


@pytest.mark.parametrize("text", ["plain", "it's", "a\\", "a\\'b", '"', "{x}", "[1,2]", "null", "a, b", "~/x", ""])
def test_text_is_quoted_as_hydra_reads_it(text: str) -> None:
    assert {"key": text} == load_config(
        ["model=python", "model.target=mine:build", f"model.options={in_grammar({'key': text})}"], sources()
    ).model.options
