"""Points that share a composition are what they would be by themselves, errors included."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvbench.config import compose
from kvbench.config.compose import load_config, load_points, sources, sweep_points, to_dict, to_yaml
from kvbench.config.schema import Config
from kvbench.errors import ConfigError

SWEEPS = [
    ("model=scripted", "model.seed=1,2,3"),
    ("model=scripted,embedded", "workload.new_tokens=4,8", "mode=cached,both"),
    ("model.seed=1,2", "model.seed=3"),
    ("experiment=habits", "workload.new_tokens=16,32", "measure.blocks=5,9"),
    ("measure=quick,precise", "measure.blocks=5,6,1"),
    ("workload.stop=ignore,[1,107],tokenizer", "model=scripted"),
    ("workload.prompt='a, b','null',null,'1e3'",),
    ("workload.prompts=null,some.txt", "workload.prompt_tokens=null,5"),
    ("model.dtype=bf16,float32,half", "model=gemma2b"),
    ("workload.new_tokens=4,many,0,-1,1.5,1e3,null",),
    ("workload.nosuch=1,2",),
    ("+workload.new_tokens=4,5",),
    ("++workload.new_tokens=4,5", "++workload.other=1,2"),
    ("workload=bundled,nosuch", "workload.new_tokens=4,5"),
    ("threads=1,2", "device=cpu,toaster"),
    ("measure.precision=0.01,inf,'x'", "measure.stopping=precision,fixed"),
    ("interrupt.steps=[1,2],[3],null", "mode=interrupted,cached"),
    ("model.architecture={model_type:llama},{}", "model.weights=random"),
    ("arms=[{mode:cached}],null", "workload.batch_size=1,2"),
    ("workload.chat_template=true,yes,0,maybe",),
    ("sampling.temperature=0,0.7,-1", "sampling.top_p=0.5,2"),
]


@pytest.mark.parametrize("sweep", SWEEPS, ids=" ".join)
def test_a_point_is_what_it_is_by_itself(sweep: tuple[str, ...]) -> None:
    where = sources()
    every = list(sweep_points(sweep, where))
    for point, together in zip(every, load_points(every, where), strict=True):
        try:
            alone: Config | str = load_config(point, where)
        except ConfigError as error:
            alone = str(error)
        assert alone == (together if isinstance(together, Config) else str(together)), point


def test_interpolations_in_a_user_s_file_see_the_point_s_own_values(tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "same.yaml").write_text("# @package _global_\nworkload:\n  new_tokens: ${workload.prompt_tokens}\n")
    where = sources(str(tmp_path / "conf"))
    every = list(sweep_points(["experiment=same", "workload.prompt_tokens=5,6"], where))
    found = [config.workload.new_tokens for config in load_points(every, where) if isinstance(config, Config)]
    assert [5, 6] == found


def test_values_share_one_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[object] = []
    real = compose.compose_config
    monkeypatch.setattr(compose, "compose_config", lambda *asked: composed.append(asked) or real(*asked))
    monkeypatch.setattr(compose, "load_config", lambda *_asked: pytest.fail("composed by itself"))
    where = sources()
    every = list(sweep_points(["mode=cached,both", "model.seed=range(0,5)"], where))
    assert 10 == len(list(load_points(every, where)))
    assert 2 == len(composed)


def test_points_do_not_share_what_they_change() -> None:
    where = sources()
    every = list(sweep_points(["model.dtype=half,bf16", "model=gemma2b"], where))
    first, second = load_points(every, where)
    assert isinstance(first, Config)
    assert isinstance(second, Config)
    assert ("float16", "bfloat16") == (first.model.dtype, second.model.dtype)
    first.model.architecture["changed"] = True
    assert "changed" not in second.model.architecture


NASTY = [
    *("1e3", "1E3", "1_000", "0x10", "0o7", "12:30", "2020-01-01", "true", "no", "null", "~", "", " ", ".5", "5."),
    *("-1", "inf", ".inf", "nan", "+1", "1e", "e1", "# no comment", "- item", "[1]", "{a: b}", "'", '"', "\\", "%"),
    *("a: b", "&a", "two\nlines", "tab\tbed", "end ", "é 三 🙂", "${x}", "a ${b.c} d", "\\${x}", "\\\\${x}", "$", "{"),
    *("x" * 500, "\u2028", "\x07bell", "!tag", "? key", "@at", "`tick`", "|", ">", "=", "<<", "0", "-", ".", "---"),
]  # fmt: skip


# As a prompt, which is declared to be text, these are one of each kind; under no declaration all are tried at once.
OF_EACH_KIND = (
    "1e3",
    "0x10",
    "12:30",
    "2020-01-01",
    "true",
    "null",
    "",
    "# no comment",
    "'",
    "\\",
    "two\nlines",
    "\\${x}",
)


@pytest.mark.parametrize(
    "text",
    [pytest.param(text, marks=[] if text in OF_EACH_KIND else [pytest.mark.slow], id=repr(text)) for text in NASTY],
)
def test_any_prompt_survives_being_written_and_composed_again(tmp_path: Path, text: str) -> None:
    config = load_config(["model=gpt2"], sources())
    config.workload.prompt = text or None  # an empty prompt is refused
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert to_dict(config) == to_dict(load_config([], sources(config_path=str(tmp_path))))


def test_any_text_survives_being_written_and_composed_again(tmp_path: Path) -> None:
    config = load_config(["model=gpt2", "model.weights=random"], sources())
    config.model.architecture = {
        "values": {f"key {n}": text for n, text in enumerate(NASTY)},
        "list": [*NASTY, 1, 1e-05, True, None],
    }
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert to_dict(config) == to_dict(load_config([], sources(config_path=str(tmp_path))))
