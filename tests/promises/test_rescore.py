"""Decoding's own log-probabilities against one pass over the text: a run, Python, and a file from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import SCRIPTED, the_record
from transformers import AutoModelForCausalLM, cache_utils
from transformers.cache_utils import DynamicLayer

import kvbench
from kvbench.errors import ConfigError, ModelUnavailable
from kvbench.models.checkpoint import EMBEDDED
from kvbench.records.rescoring import Rescore

Run = Callable[..., tuple[int, str, str]]
QUICK = ("launch=inline", "device=cpu", "threads=1", "measure.blocks=1", "measure.warmup=0", "report=false")
SAME = ("IDENTICAL", "EQUAL_WITHIN_ROUNDING")
BRIEF: dict[str, Any] = {
    "blocks": 1, "warmup": 0, "step_lane": False, "energy_s": 0, "agreement": "none", "rescore": True,
}  # fmt: skip
ERROR, DRIFT, TOKENS = 0.1, 0.01, 20


def embedded(dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=dtype).eval()


@pytest.fixture(scope="module")
def written() -> tuple[Any, list[int], list[float], int]:
    """The embedded model, a text that it drew, what it thought of each token, and where the answer begins."""
    model = embedded(torch.float32)
    prompt = torch.tensor([list(range(40, 60))])
    torch.manual_seed(1)
    drawn = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=32, min_new_tokens=32, do_sample=True, top_k=0,
        return_dict_in_generate=True, output_logits=True, pad_token_id=0,
    )  # fmt: skip
    ids = drawn.sequences[0].tolist()
    scores = zip(drawn.logits, ids[20:], strict=True)
    return model, ids, [float(logits[0].log_softmax(-1)[token]) for logits, token in scores], 20


class TestARunOfTheScriptedModel:
    def test_recovers_what_the_script_says_exactly(self, run_kvbench: Run, tmp_path: Path) -> None:
        script = (f"model.logprob_error={ERROR}", f"model.logprob_drift={DRIFT}", f"workload.new_tokens={TOKENS}")
        code, said, _ = run_kvbench(*SCRIPTED, "check=rescore", *script)
        record = the_record(tmp_path / "results")
        nocache, cached = record["rescores"]
        apart = [ERROR + DRIFT * step for step in range(TOKENS)]
        assert 3 == code
        assert ("IDENTICAL", "MISMATCH") == (nocache["verdict"], cached["verdict"])
        assert 4 * TOKENS == cached["positions"]
        assert [apart] * 4 == [pytest.approx(row) for row in cached["differences"]]
        assert sum(apart) / TOKENS == pytest.approx(cached["mean_abs_difference"]) == pytest.approx(-cached["k1"])
        assert sum(math.exp(d) - 1 - d for d in apart) / TOKENS == pytest.approx(cached["k3"])
        # 0.1, 0.11 … 0.29: those over log(1.2) = 0.182 begin at 0.19.
        assert 11 / 20 == cached["share_over"]
        for end in ("drift_per_1000", "drift_low", "drift_high"):
            assert 1000 * DRIFT == pytest.approx(cached[end])
        # The script's other order of summing moves every one by 0.001.
        assert 0.001 == pytest.approx(cached["noise_mean_abs"])
        assert (math.exp(0.001) - 1.001 + math.exp(-0.001) - 0.999) / 2 == pytest.approx(cached["noise_k3"], rel=1e-4)
        assert sum(apart) / TOKENS / 0.001 == pytest.approx(cached["error"]["ratio"])
        assert (0, 0, 0.0) == (nocache["k1"], nocache["k3"], nocache["share_over"])
        checks = {each["name"]: each for each in record["checks"]}
        assert not checks["rescore"]["passed"]
        assert "the difference grows along the answer, by 1.0e+01" in checks["rescore"]["detail"]
        assert "decoding and one pass over the text give different log-probabilities" in " ".join(said.split())

    def test_is_valid_where_steps_differ_by_rounding_alone(self, run_kvbench: Run, tmp_path: Path) -> None:
        code, _, _ = run_kvbench(*SCRIPTED, "check=rescore", "mode=cached", "model.logprob_error=0.001")
        record = the_record(tmp_path / "results")
        assert (0, "EQUAL_WITHIN_ROUNDING") == (code, record["rescores"][0]["verdict"])

    def test_writes_its_sentence_and_chart_on_the_page(self, run_kvbench: Run, tmp_path: Path) -> None:
        keys = [each for each in SCRIPTED if each != "report=false"]
        run_kvbench(*keys, "check=rescore", f"model.logprob_error={ERROR}", "measure.blocks=5")
        (page,) = tmp_path.rglob("report.html")
        text = page.read_text()
        assert "give different log-probabilities (mean difference 0.1 nats, rounding alone 1.0e-03)" in text
        assert "Log-probabilities: decoding against one pass over the text" in text

    def test_is_off_unless_asked_for(self, run_kvbench: Run, tmp_path: Path) -> None:
        run_kvbench(*SCRIPTED)
        assert [] == the_record(tmp_path / "results")["rescores"]


def test_a_run_judges_every_arm_and_tells_a_quantised_cache_from_a_fault(tiny_model: Callable[..., Any]) -> None:
    lossy = [{"mode": "cached", "cache": "fp8"}] if hasattr(cache_utils, "Fp8QuantizedLayer") else []
    arms = ["nocache", "cached", {"mode": "cached", "cache": "static"}, "generate", *lossy]
    # Prompts of unequal length in one batch: decoding has padding, the pass over each text has none.
    prompts = [list(range(5, 25)), list(range(30, 41))]
    record = kvbench.measure(tiny_model("llama"), prompts=prompts, arms=arms, batch_size=2, new_tokens=12, **BRIEF)
    nocache, cached, static, generated, *quantised = record.rescores
    for sound in (nocache, cached, static, generated):
        assert sound.verdict in SAME, sound.detail
        assert sound.error is not None
        assert "float64" == sound.error.reference
        assert [12, 12] == [len(row) for row in sound.differences]
        assert (sound.max_abs_difference or 0) < 1e-4
    for each in quantised:
        assert (None, "quantised cache") == (each.verdict, each.differs_by)
        assert each.error is not None
        assert each.error.ratio > each.error.allowed
        assert "the cache's own quantisation (fp8)" in each.detail
    assert "rescore" not in [check.name for check in record.checks if not check.passed]


def test_a_decode_that_was_interrupted_is_scored_with_what_was_inserted(run_kvbench: Run, tmp_path: Path) -> None:
    keys = ("mode=interrupted", "interrupt.steps=[3]", "interrupt.message=' wait '", "workload.prompt_tokens=20")
    few = ("workload.new_tokens=8", "measure.step_lane=false", "measure.energy_s=0", "stream.interval=0")
    run_kvbench(*keys, *few, "check=rescore", "check.agreement=none", *QUICK)
    found = the_record(tmp_path / "results")["rescores"]
    assert {"nocache", "cached", "interrupted"} == {arm["mode"] for arm in the_record(tmp_path / "results")["arms"]}
    assert 3 == len(found)
    assert all(each["verdict"] in SAME for each in found)


class TestFromPython:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_sound_cache_gives_what_one_pass_gives(self, written: Any, dtype: torch.dtype) -> None:
        _, ids, _, prompt = written
        found = kvbench.rescore(embedded(dtype), ids, prompt_tokens=prompt)
        assert isinstance(found, Rescore)
        assert found.verdict in SAME
        assert found.error is not None
        assert 0.2 < found.error.ratio < 1.45
        assert (1, 32, 0.0) == (found.sequences, found.positions, found.share_over)

    def test_a_cache_that_is_wrong_from_a_position_on_is_found_and_its_drift_told(
        self, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usual = DynamicLayer.update

        def worse_and_worse(self: Any, keys: torch.Tensor, values: torch.Tensor, *others: Any, **named: Any) -> Any:
            past = self.get_seq_length()
            return usual(self, keys, values * (1 + 0.02 * max(0, past - 25)), *others, **named)

        monkeypatch.setattr(DynamicLayer, "update", worse_and_worse)
        torch.manual_seed(0)
        ids = torch.randint(3, 97, (2, 60))
        found = kvbench.rescore(tiny_model("llama"), ids, prompt_tokens=[12, 20])
        assert "MISMATCH" == found.verdict
        # The token at 26 is in the cache before token 27 is scored: position 15 after 12, 7 after 20.
        assert found.first_beyond in (7, 8)
        assert found.drift_low is not None
        assert found.drift_low > 0
        assert "the difference grows along the answer" in found.detail

    def test_log_probabilities_of_generate_are_those_of_one_pass(self, written: Any) -> None:
        model, ids, logprobs, _ = written
        assert kvbench.rescore(model, torch.tensor(ids), torch.tensor(logprobs)).verdict in SAME

    @pytest.mark.parametrize(
        ("mistake", "said"),
        [
            (lambda rows: [row / math.log(10) for row in rows], "decimal logarithms: multiply them by 2.30259"),
            (lambda rows: [row / math.log(2) for row in rows], "binary logarithms: multiply them by 0.693147"),
            (lambda rows: [*rows[1:], -1.0], "fits the token after the one that it stands at"),
            (lambda rows: [-1.0, *rows[:-1]], "fits the token before the one that it stands at"),
        ],
    )
    def test_names_a_mistake_that_is_known(self, written: Any, mistake: Any, said: str) -> None:
        model, ids, logprobs, _ = written
        found = kvbench.rescore(model, ids, mistake(logprobs))
        assert "MISMATCH" == found.verdict
        assert said in found.detail

    def test_takes_the_temperature_or_says_which_it_was(self, written: Any) -> None:
        model, ids, _, prompt = written
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, prompt - 1 : -1] / 0.7
        cooled = logits.log_softmax(-1).gather(1, torch.tensor(ids[prompt:]).unsqueeze(1)).squeeze(1).tolist()
        assert "give temperature=0.7, in the shell --temperature 0.7" in kvbench.rescore(model, ids, cooled).advice
        assert kvbench.rescore(model, ids, cooled, temperature=0.7).verdict in SAME

    def test_numbers_of_sixteen_bits_are_judged_as_finely_as_they_can_tell(self, written: Any) -> None:
        model, ids, logprobs, _ = written
        narrow = torch.tensor(logprobs).to(torch.bfloat16)
        assert kvbench.rescore(model, ids, narrow).verdict in SAME
        assert "MISMATCH" == kvbench.rescore(model, ids, narrow.float()).verdict

    @pytest.mark.parametrize(
        ("ids", "logprobs", "prompt", "said"),
        [
            ([1, 2, 3], None, None, "prompt_tokens: say how many"),
            ([1, 2, 3], [-1.0], 1, "1 logprobs for an answer of 2 tokens"),
            ([1, 2, 3], [-1.0] * 4, None, "prompt_tokens is -1"),
            ([[1, 2], [3, 4]], [[-1.0]], None, "1 lists for 2 texts"),
            ([1, 2, 5000], [-1.0], None, "id 5000 is outside the model's vocabulary of 1,024"),
            ([1] * 9000, [-1.0], None, "9,000 ids are more than the model's context"),
            ([1, 2, 3], [math.nan], None, "logprobs[0] is nan"),
            ([1, 2, 3], [-math.inf], None, "logprobs[0] is -inf"),
        ],
    )
    def test_says_what_cannot_be_judged(self, written: Any, ids: Any, logprobs: Any, prompt: Any, said: str) -> None:
        with pytest.raises(ConfigError) as error:
            kvbench.rescore(written[0], ids, logprobs, prompt_tokens=prompt)
        assert said in str(error.value)

    def test_a_model_of_ones_own_is_scored_if_it_gives_the_logits_of_every_position(self) -> None:
        class Own(torch.nn.Module):
            vocab_size = 11
            kept = slice(None)

            def __init__(self) -> None:
                super().__init__()
                self.embed, self.head = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)

            def forward(self, ids: torch.Tensor, cache: Any = None) -> torch.Tensor:
                logits: torch.Tensor = self.head(self.embed(ids[:, self.kept]))
                return logits

        model, ids = Own(), [1, 2, 3, 4]
        logprobs = model(torch.tensor([ids])).log_softmax(-1)[0, [1, 2], ids[2:]]
        assert kvbench.rescore(model, ids, logprobs.detach()).verdict in SAME
        model.kept = slice(-1, None)
        with pytest.raises(ModelUnavailable, match="return those of all positions"):
            kvbench.rescore(model, ids, logprobs.detach())


class TestAFileFromElsewhere:
    def test_goes_in_and_comes_out_with_a_verdict(self, written: Any, run_kvbench: Run, tmp_path: Path) -> None:
        _, ids, logprobs, prompt = written
        lines = [
            {"prompt_ids": ids[:prompt], "ids": ids[prompt:], "logprobs": logprobs, "server": "x"},
            {"ids": ids, "prompt_tokens": prompt, "logprobs": [round(row, 4) for row in logprobs]},
        ]
        file = tmp_path / "texts.jsonl"
        file.write_text("\n\n".join(map(json.dumps, lines)))
        out, page = tmp_path / "out.json", tmp_path / "out.html"
        code, said, error = run_kvbench("rescore", str(file), "threads=1", "--json", str(out), "--html", str(page))
        assert 0 == code, error
        assert "give the same log-probabilities, up to rounding" in said
        assert "written to within 5.0e-05 nats" in said
        found = Rescore.model_validate_json(out.read_text())
        assert (2, 64) == (found.sequences, found.positions)
        assert "<svg" in page.read_text()

    def test_that_differs_ends_with_3(self, written: Any, run_kvbench: Run, tmp_path: Path) -> None:
        _, ids, logprobs, prompt = written
        file = tmp_path / "texts.jsonl"
        line = {"ids": ids, "prompt_tokens": prompt, "logprobs": [row * 1.01 for row in logprobs]}
        file.write_text(json.dumps(line))
        code, said, _ = run_kvbench("rescore", str(file), "threads=1")
        assert 3 == code
        assert "give different log-probabilities" in said

    def test_with_ids_of_another_model_names_the_line(self, run_kvbench: Run, tmp_path: Path) -> None:
        (tmp_path / "texts.jsonl").write_text('{"ids": [1, 2, 99999], "prompt_tokens": 2, "logprobs": [-1]}')
        code, _, error = run_kvbench("rescore", str(tmp_path / "texts.jsonl"), "threads=1")
        assert 2 == code
        assert "line 1: id 99999 is outside the model's vocabulary of 1,024 tokens" in error

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("nothing.jsonl",), "nothing.jsonl: cannot be read (No such file or directory)"),
            (("empty.jsonl",), "there is no text in it"),
            (("good.jsonl", "model=scripted"), "a script scores no texts"),
            (("good.jsonl", "--temperature", "0"), "--temperature 0: give the number above 0"),
            (("good.jsonl", "--json", "no/such/folder.json"), "does not exist"),
        ],
    )
    def test_that_cannot_be_judged_is_told_before_a_model_is_loaded(
        self, run_kvbench: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        (tmp_path / "empty.jsonl").write_text("\n")
        (tmp_path / "good.jsonl").write_text('{"ids": [1, 2], "prompt_tokens": 1, "logprobs": [-1]}')
        code, _, error = run_kvbench("rescore", str(tmp_path / arguments[0]), *arguments[1:])
        assert 2 == code
        assert said in error
