"""`kvbench watch`: the script runs as it would without kvbench, and is told about afterwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationMixin

Run = Callable[..., tuple[int, str, str]]

PLAIN = """
import sys
import torch

class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(97, 8), torch.nn.Linear(8, 97)

    def forward(self, ids):
        return self.head(self.embed(ids))

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix = torch.nn.Embedding(97, 8), torch.nn.Linear(8, 8)

    def forward(self, ids):
        return self.mix(self.embed(ids))

encoder, draft, model = Encoder(), Plain(), Plain()
ids = torch.arange(3, 8).unsqueeze(0)
with torch.inference_mode():
    encoder(ids)
    for _ in range(4):
        ids = torch.cat([ids, draft(ids)[:, -1:].argmax(-1)], dim=1)
    ids = model(ids[:, :5])[:, -1:].argmax(-1)
print("arguments", *sys.argv[1:])
"""
GENERATES = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

shape = dict(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4)
target, draft = (LlamaForCausalLM(LlamaConfig(**shape, eos_token_id=None)).eval() for _ in range(2))
ids = torch.arange(3, 13).unsqueeze(0)
target.generate(ids, max_new_tokens=6, do_sample=False, assistant_model=draft, pad_token_id=0)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "script.py").write_text(text)
        return "script.py"

    return write


def test_a_script_runs_as_it_is_and_is_told_about_on_standard_error(
    run_kvbench: Run, script: Callable[[str], str], tmp_path: Path
) -> None:
    before = (torch.nn.Module.__call__, GenerationMixin.generate, list(sys.argv), list(sys.path))
    outputs = ("--json", "seen.json", "--html", "seen.html")
    code, out, err = run_kvbench("watch", *outputs, script(PLAIN), "--json", "3")
    assert (0, "arguments --json 3\n") == (code, out)
    assert "Plain, float32 on cpu: 4 forward passes in 1 text" in err
    assert "26 positions for 4 tokens, where 8 would do" in err
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert [5, 6, 7, 8] == [each["submitted"] for each in seen["passes"]]  # the encoder's pass is none of them
    assert "script.py:" in seen["generations"][0]["site"]
    assert "26 positions" in (tmp_path / "seen.html").read_text()
    assert before == (torch.nn.Module.__call__, GenerationMixin.generate, sys.argv, sys.path)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("sys.exit(5)", 5, ""),
        ("sys.exit('no more')", 1, "no more"),
        ("raise KeyError('theirs')", 1, "KeyError: 'theirs'"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_the_exit_code_is_the_scripts_and_what_was_seen_is_told(
    run_kvbench: Run, script: Callable[[str], str], end: str, code: int, said: str
) -> None:
    ended, _, err = run_kvbench("watch", script(PLAIN + end))
    assert code == ended
    assert said in err
    assert "4 forward passes" in err
    assert "runpy" not in err
    assert "kvbench/" not in err.partition("Plain, float32")[0]  # no frame of ours


@pytest.mark.parametrize(("target", "passes"), [("__main__:model", 1), ("__main__:Plain", 4), ("__main__:draft", 4)])
def test_a_target_names_an_object_or_a_class(
    run_kvbench: Run, script: Callable[[str], str], target: str, passes: int
) -> None:
    _, _, err = run_kvbench("watch", "--target", target, script(PLAIN))
    assert f"{passes} forward pass" in err


def test_of_a_speculative_script_it_is_the_model_that_generates(run_kvbench: Run, script: Callable[[str], str]) -> None:
    assert 0 == run_kvbench("watch", "--json", "seen.json", script(GENERATES))[0]
    seen: dict[str, Any] = json.loads(Path("seen.json").read_text())
    assert "assisted" in [each["code"] for each in seen["findings"]]
    assert 10 < seen["passes"][0]["submitted"]  # the draft's first pass has the prompt alone


def test_a_module_is_run_by_its_name(run_kvbench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(PLAIN)
    code, out, err = run_kvbench("watch", "-m", "theirs", "word")
    assert (0, "arguments word\n") == (code, out)
    assert "4 forward passes" in err


def test_a_script_without_a_model_hears_how_to_name_one(run_kvbench: Run, script: Callable[[str], str]) -> None:
    code, _, err = run_kvbench("watch", script("raise SystemExit(4)"))
    assert 4 == code
    assert "--target MODULE:NAME" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "names no script"),
        (("nowhere.py",), "there is no file nowhere.py"),
        (("a" * 300 + ".py",), "there is no file aaa"),
        (("--json", "nowhere/seen.json", "script.py"), "does not exist"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    run_kvbench: Run, script: Callable[[str], str], words: tuple[str, ...], said: str
) -> None:
    script("print('ran')")
    code, out, err = run_kvbench("watch", *words)
    assert (2, "") == (code, out)
    assert said in err
