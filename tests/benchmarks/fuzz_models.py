"""Model folders that are broken in some way: each must be measured, or refused in one line that names the folder.

python tests/benchmarks/fuzz_models.py [--cases 2000] [--seed 0] [--minutes M] [--keep FOLDER] [--verbose]

Every case copies a small sound folder (llama in one safetensors file, in shards, or pickled; gpt2), changes it in one
to three ways and runs `kvbench model=path` on it in a process of its own, with a time limit and a memory limit. Values
come from hypothesis; the same seed makes the same cases. A table counts how they ended; the exit code is 1 when one
ended in another way than it should.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

# Before torch and transformers are imported, which is done below.
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
# Python 3.12 warns of forks where there are threads; here it would be taken for a line of the case.
warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)

LIMIT_S = 60  # of a case; an idle core needs half a second
MEMORY_BYTES = 6 * 2**30  # of address space, most of which is what torch maps
SOUND = ("llama", "shards", "pickled", "gpt2")
RUN = (
    *("model=path", "workload.prompt=hello", "workload.new_tokens=3", "measure.blocks=1", "measure.warmup=0"),
    *("measure.step_lane=false", "launch=inline", "report=false", "threads=1"),
)

Broken = tuple[str, ...]
ODD_NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2, 3, 2**31, 2**63, 10**9, 10**18, 10**30, -(10**9), 0.5, 1e308, True, False]),
    st.integers(-10, 400),
    st.floats(allow_nan=True, allow_infinity=True),
)
VALUES = st.recursive(
    st.one_of(st.none(), ODD_NUMBERS, st.text(max_size=8), st.sampled_from(["llama", "float16", "auto", "../x", "1"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
    *("num_key_value_heads", "max_position_embeddings", "n_embd", "n_layer", "n_head", "n_positions", "num_labels"),
    *("pad_token_id", "eos_token_id", "bos_token_id", "rms_norm_eps", "n_inner", "pretraining_tp", "sliding_window"),
)
NAMES = (
    *("model_type", "architectures", "dtype", "torch_dtype", "rope_parameters", "rope_scaling", "rope_theta"),
    *("layer_types", "quantization_config", "auto_map", "id2label", "hidden_act", "tie_word_embeddings"),
    *("attention_bias", "use_cache", "text_config", "transformers_version", "activation_function"),
)
JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
RUBBISH = st.sampled_from(
    [b"\xff\xfe", b"\x80", b"\x00", b"{", b"]", b'"', b"\xef\xbb\xbf", "é".encode("latin-1"), b","]
)
WHOLE = st.sampled_from(
    ["", "null", "3", "[]", '"x"', "{}", "{", "[" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 5000, "NaN"]
)
KINDS = ("missing", "empty", "folder", "dangling", "loop", "pipe", "zeros")


@st.composite
def breakages(draw: st.DrawFn) -> tuple[str, Broken]:
    """A sound folder's name, and what is done to a copy of it, as arguments of the functions of `HOW`."""
    folder = draw(st.sampled_from(SOUND))
    index = {"shards": "model.safetensors.index.json"}.get(folder)
    files = [*JSON_FILES, *([index] * 2 if index else [])]
    weights = "pytorch_model.bin" if folder == "pickled" else "model.safetensors"
    ways = {
        "size": st.tuples(st.sampled_from(SIZES), ODD_NUMBERS),
        "name": st.tuples(st.sampled_from(NAMES), VALUES),
        "value": st.tuples(st.sampled_from(files), st.integers(0, 10**6), VALUES),
        "drop": st.tuples(st.sampled_from(files), st.integers(0, 10**6)),
        "whole": st.tuples(st.sampled_from(files), WHOLE),
        "bytes": st.tuples(st.sampled_from([*files, weights]), st.floats(0, 1), RUBBISH),
        "cut": st.tuples(st.sampled_from([*files, weights]), st.floats(0, 1)),
        "kind": st.tuples(st.sampled_from([*files, weights]), st.sampled_from(KINDS)),
        "map": st.tuples(st.integers(0, 10**6), VALUES) if index else st.nothing(),
        "header": st.tuples(st.integers(0, 10**6), VALUES),
        "pickle": st.tuples(st.integers(0, 10**6), VALUES) if folder == "pickled" else st.nothing(),
    }
    one = st.one_of([st.tuples(st.just(name), arguments) for name, arguments in ways.items()])
    return folder, tuple(draw(st.lists(one, min_size=1, max_size=3)))


def entries(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys or places."""
    found: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        here = stack.pop()
        keys: Any = here.keys() if isinstance(here, dict) else range(len(here)) if isinstance(here, list) else ()
        for key in keys:
            found.append((here, key))
            stack.append(here[key])
    return found


def edited(file: Path, edit: Callable[[Any], None]) -> None:
    try:
        value = json.loads(file.read_bytes())
        edit(value)
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, LookupError):
        return  # broken before in another way
    file.write_text(json.dumps(value))


def put(place: int, new: Any, *, remove: bool = False) -> Callable[[Any], None]:
    def edit(value: Any) -> None:
        found = entries(value)
        if not found:
            return
        here, key = found[place % len(found)]
        if remove:
            del here[key]
        else:
            here[key] = new

    return edit


def set_in_config(folder: Path, key: str, value: Any) -> None:
    edited(folder / "config.json", lambda config: config.__setitem__(key, value))


def insert(folder: Path, name: str, where: float, rubbish: bytes) -> None:
    file = folder / name
    if file.is_file():
        content = file.read_bytes()
        place = int(where * len(content))
        file.write_bytes(content[:place] + rubbish + content[place:])


def cut(folder: Path, name: str, share: float) -> None:
    file = folder / name
    if file.is_file():
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def another_kind(folder: Path, name: str, kind: str) -> None:
    file = folder / name
    if file.is_dir() and not file.is_symlink():
        return
    file.unlink(missing_ok=True)
    match kind:
        case "empty":
            file.touch()
        case "folder":
            file.mkdir()
        case "dangling":
            file.symlink_to(folder / "nothing")
        case "loop":
            file.symlink_to(file)
        case "pipe":
            os.mkfifo(file)
        case "zeros":
            file.symlink_to("/dev/zero")


def map_weights(folder: Path, place: int, value: Any) -> None:
    def edit(index: Any) -> None:
        names = sorted(index["weight_map"])
        if place % 5 == 0:
            index["weight_map"] = value
        elif place % 5 == 1:
            index.pop("metadata", None)
        else:
            index["weight_map"][names[place % len(names)]] = value

    edited(folder / "model.safetensors.index.json", edit)


def edit_header(folder: Path, place: int, value: Any) -> None:
    files = [file for file in sorted(folder.glob("*.safetensors")) if file.is_file()]
    if not files:
        return
    content = files[place % len(files)].read_bytes()
    length = int.from_bytes(content[:8], "little")
    with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError, LookupError):
        header = json.loads(content[8 : 8 + length])
        put(place, value)(header)
        written = json.dumps(header).encode()
        files[place % len(files)].write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])


def edit_pickle(folder: Path, place: int, value: Any) -> None:
    import torch

    file = folder / "pytorch_model.bin"
    with contextlib.suppress(Exception):
        tensors = torch.load(file, weights_only=True)
        names = sorted(tensors)
        if place % 4 == 0:
            tensors = value
        else:
            tensors[names[place % len(names)]] = value
        torch.save(tensors, file)


HOW: dict[str, Callable[..., None]] = {
    "size": set_in_config,
    "name": set_in_config,
    "value": lambda folder, name, place, value: edited(folder / name, put(place, value)),
    "drop": lambda folder, name, place: edited(folder / name, put(place, None, remove=True)),
    "whole": lambda folder, name, text: (folder / name).is_file() and (folder / name).write_text(text),
    "bytes": insert,
    "cut": cut,
    "kind": another_kind,
    "map": map_weights,
    "header": edit_header,
    "pickle": edit_pickle,
}


def make_sound(root: Path) -> None:
    """The folders that the cases are copies of."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from kvbench.models.loading import quietly
    from kvbench.models.tokenizers import byte_tokenizer

    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    llama = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    llama |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, **ids}
    gpt2 = {"vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, **ids}
    for name in SOUND:
        shape = gpt2 if name == "gpt2" else llama
        torch.manual_seed(0)
        with quietly():
            config = AutoConfig.for_model("gpt2" if name == "gpt2" else "llama", **shape)
            model = AutoModelForCausalLM.from_config(config)
            model.save_pretrained(root / name, max_shard_size="30KB" if name == "shards" else "5GB")
            byte_tokenizer(320).save_pretrained(root / name)
        if name == "pickled":
            torch.save(model.state_dict(), root / name / "pytorch_model.bin")
            (root / name / "model.safetensors").unlink()


def ended(case: Path) -> tuple[str, str]:
    """Run kvbench on `case`/m in a child of this process: how it ended, and what it said."""
    began_s = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(case)
            for descriptor, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), descriptor)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            signal.alarm(LIMIT_S)
            from kvbench.__main__ import main

            code = main([*RUN, f"model.path={case / 'm'}"])
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    said = (case / "err").read_text(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if "Traceback" in said:
        return "traceback", said
    if code < 0:
        how = "hangs" if code == -signal.SIGALRM else f"dies of signal {-code}"
        return how, f"{said} after {time.monotonic() - began_s:.0f} s"
    if code in (0, 3):
        return "measured", said
    if code == 2:
        foreign = [line for line in said.splitlines() if not line.startswith("kvbench: ")]
        if foreign or said.count("\n") != 1:
            return "refused in several lines", "\n".join(foreign) or said
        if str(case / "m") not in said and " m " not in said:  # the folder, or its name where a prompt is too long
            return "refused without its folder", said
        return "refused", said
    statuses = [json.loads(path.read_text()) for path in case.rglob("run.json")]
    status = statuses[0]["status"] if statuses else "no record"
    reason = statuses[0]["status_reason"] if statuses else said
    return (status if status in ("infeasible", "oom") else f"exit {code}, {status}"), reason


GOOD = {"measured", "refused", "infeasible", "oom"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop drawing cases after so long")
    parser.add_argument("--keep", type=Path, help="a folder for those that ended as they should not")
    parser.add_argument("--verbose", action="store_true", help="print what each one said")
    options = parser.parse_args()
    import kvbench.commands.run
    import kvbench.commands.sweep
    import kvbench.running.torch_backend  # noqa: F401 - once, before the forks

    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-models-") as root:
        make_sound(Path(root))

        @seeded(options.seed)
        @settings(
            max_examples=options.cases,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(breakages())
        def case(breakage: tuple[str, Broken]) -> None:
            if options.minutes is not None and time.monotonic() > began_s + 60 * options.minutes:
                raise KeyboardInterrupt
            base, changes = breakage
            folder = Path(tempfile.mkdtemp(dir=root))
            shutil.copytree(Path(root) / base, folder / "m")
            for name, arguments in changes:
                HOW[name](folder / "m", *arguments)
            how, said = ended(folder)
            counts[how] += 1
            last = said.strip().splitlines()[-1] if said.strip() else ""
            if options.verbose or how not in GOOD:
                print(f"{how}: {base} {str(changes)[:300]}\n    {last[:300]}", flush=True)
            if how not in GOOD:
                reasons[f"{how}: {re.sub(r'[0-9]+', 'N', last.replace(str(folder), ''))[:110]}"] += 1
                if options.keep:
                    shutil.copytree(folder, options.keep / folder.name, symlinks=True, ignore=pipes)
            shutil.rmtree(folder)

        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C, or time is up: the table of what was tried so far
            case()
    print(f"\nseed {options.seed}, {sum(counts.values())} folders")
    for how, number in counts.most_common():
        print(f"{number:8}  {how}{'' if how in GOOD else '   <- should not be'}")
    for reason, number in reasons.most_common():
        print(f"{number:8}  {reason}")
    return 0 if set(counts) <= GOOD else 1


def pipes(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(folder, name).is_fifo() or Path(folder, name).is_symlink()}


if __name__ == "__main__":
    sys.exit(main())
