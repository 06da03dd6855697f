"""Every ready experiment composes, says what it is, and keeps its promise when another model is put under it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.config.compose import load_config, sources
from kvbench.config.conf_files import conf_folder
from kvbench.plan import make_plan

EXPERIMENTS = sorted((conf_folder() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_composes_on_its_own_and_on_the_embedded_model(file: Path) -> None:
    assert "\n# " in file.read_text()
    for overrides in ([], ["model=embedded"]):
        assert make_plan(load_config([f"experiment={file.stem}", *overrides], sources())).arms


class TestTheWalkThroughs:
    def test_of_yuan_has_its_settings(self) -> None:
        plan = make_plan(load_config(["experiment=yuan_quickstart"], sources()))
        config = plan.config
        assert ["nocache_naive", "cached"] == [arm.mode for arm in plan.arms]
        assert ("yuan2b", "float16", 512, "tokenizer", 2) == (
            config.model.name,
            config.model.dtype,
            config.workload.new_tokens,
            config.workload.stop,
            config.stream.interval,
        )
        sampling = config.sampling
        assert (0.7, 0.95, 1.0) == (sampling.temperature, sampling.top_p, sampling.repetition_penalty)
        assert ("请问目前最先进的机器学习算法有哪些？",) == plan.prompts.texts

    def test_of_gemma_has_its_settings(self) -> None:
        plan = make_plan(load_config(["experiment=gemma_quickstart"], sources()))
        config = plan.config
        assert ("gemma2b", "int8", 16, "tokenizer", 0.0) == (
            config.model.name,
            config.model.quantization,
            config.workload.new_tokens,
            config.workload.stop,
            config.sampling.temperature,
        )
        assert plan.prompts.texts[0].startswith("[INST] ")
        assert plan.prompts.texts[0].endswith("請問什麼是大型語言模型？ [/INST]")
