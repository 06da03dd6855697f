"""What this machine must have for a run, as far as it can be told without torch: asked before anything is loaded.

Nothing is refused here that would have worked: where a look from outside cannot be sure, the worker decides.
"""

from __future__ import annotations

import ast
import ctypes
import errno
import importlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from kvbench.capabilities import ATTENTION_PACKAGES, QUANTIZATIONS, CacheKind
from kvbench.config.schema import Config, ModelConfig
from kvbench.errors import ConfigError, DeviceUnavailable, ModelUnavailable, PromptError, RecordError
from kvbench.installation import install_hint
from kvbench.library_versions import too_old
from kvbench.model_facts import extends_context
from kvbench.model_folder import (
    EMBEDDED,
    adapter_in,
    cache_location,
    cached_folder,
    instead_of_download,
    is_complete,
    is_offline,
    local_folder,
    require_complete,
)
from kvbench.plan import Plan, make_plan

# What can be told of a model before it is loaded: its folder, its context, the module that `model.target` names.


# Names that transformers takes for the context of every architecture that states them: others may be something else.
STATED = ("max_position_embeddings", "n_positions")
LARGEST_TOKENIZER_BYTES = 8_000_000  # more takes longer to read than a person waits for a refusal
# transformers may build a tokenizer that differs from its file in details: only far more tokens than fit are refused.
MARGIN = 1.1
READ_CHARACTERS = 8  # of a text for each token of the context: enough to tell, however long it is
# With one of these a module may have names that its text does not bind.
DYNAMIC = {"__getattr__", "globals", "setattr", "exec", "eval", "vars", "modules", "__dict__"}


def found_folder(model: ModelConfig) -> Path | None:
    """The folder that the model will be read from, where that is certain by now.

    Raises `ModelUnavailable` when it does not exist or is no transformers folder, and when the hub must not be asked
    and the cache lacks the model.
    """
    match model.weights:
        case "embedded":
            return EMBEDDED
        case "path":
            folder = local_folder(str(model.path))
            require_complete(folder, str(model.path))
            return _with_config(folder, model)
        case "random" if model.path is not None and not model.architecture:
            folder = local_folder(model.path)
            if not folder.is_dir():
                raise ModelUnavailable(f"model.path={model.path}: no such folder")
            if not (folder / "config.json").is_file():
                raise ModelUnavailable(f"{model.path} has no config.json: it is not a transformers folder")
            return folder
        case "hub":
            snapshot = _offline_folder(model, with_weights=True)
            return None if snapshot is None else _with_config(snapshot, model)
        case "random" if model.id is not None and not model.architecture:
            return _offline_folder(model, with_weights=False)
        case _:
            return None


def _with_config(folder: Path, model: ModelConfig) -> Path | None:
    """The folder itself, or of an adapter alone the folder of its base, where that is known by now."""
    adapter = adapter_in(folder)
    if adapter is None or adapter.beside_base:
        return folder
    if adapter.local_base is not None:
        return adapter.local_base
    return _offline_folder(replace(model, id=adapter.base, revision=adapter.revision), with_weights=True)


def _offline_folder(model: ModelConfig, *, with_weights: bool) -> Path | None:
    """The cached snapshot where only the cache may be used; None where the hub has the say."""
    if not is_offline():
        return None
    try:
        folder = cached_folder(str(model.id), model.revision)
    except ValueError:  # no id of a repository: the hub client has the sentence
        return None
    if folder is not None and (not with_weights or is_complete(folder)):
        return folder
    missing = "the config.json of " if not with_weights else "" if folder is None else "part of the weights of "
    of_revision = f" at revision {model.revision}" if model.revision else ""
    raise ModelUnavailable(
        f"HF_HUB_OFFLINE is set, and {missing}{model.id}{of_revision} is not in the local cache ({cache_location()}):"
        f" unset it to download, set HF_HOME to where the model is, or {instead_of_download(model)}"
    )


def require_lengths(plan: Plan, folder: Path) -> None:
    """Raise `PromptError` or `ConfigError` when a prompt, alone or with its new tokens, is longer than the context."""
    limit = stated_context(folder)
    if limit is None or plan.config.frontier.axes is not None:
        return
    name, new_tokens = plan.model_name, plan.config.workload.new_tokens
    if plan.prompts.lengths:
        longest = max(plan.prompts.lengths)
        if longest >= limit:
            key = "scaling.lengths" if plan.config.scaling.lengths is not None else "workload.prompt_tokens"
            raise PromptError(f"{key}={longest}: {name} reads at most {limit} tokens: lower it")
        if longest + new_tokens > limit:
            raise ConfigError(
                f"workload.new_tokens={new_tokens}: with a prompt of {longest} tokens {name} has room for"
                f" {limit - longest} (context {limit})"
            )
        return
    if not plan.prompts.texts:  # token ids, whose number the worker looks at
        return
    text = max(plan.prompts.texts, key=len)
    if len(text.encode()) <= limit:
        return  # no token is less than a byte
    beginning = text[: limit * READ_CHARACTERS]
    tokens = _tokens(folder, beginning)
    if tokens is not None and tokens > limit * MARGIN:
        more = "about" if beginning == text else "more than"
        raise PromptError(
            f"prompt {plan.prompts.texts.index(text) + 1} has {more} {tokens} tokens, {name} reads at most {limit}:"
            " shorten it, or lower workload.prompt_tokens"
        )


@lru_cache(maxsize=64)
def stated_context(folder: Path) -> int | None:
    """Tokens that a model reads at most, as its config.json states beyond doubt; else None."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict) or "auto_map" in config:
        return None  # code of its own may count otherwise
    text = config.get("text_config", config)
    if not isinstance(text, dict) or any(config.get(section) is not None for section in ("decoder", "generator")):
        return None
    if extends_context(text):
        return None  # works beyond it
    found = {value for name in STATED if type(value := text.get(name)) is int}
    return found.pop() if len(found) == 1 else None


@lru_cache(maxsize=64)
def _tokens(folder: Path, text: str) -> int | None:
    """Tokens of a text by the folder's tokenizer.json, without special ones; None where it is large or unreadable."""
    file = folder / "tokenizer.json"
    if not file.is_file() or file.stat().st_size > LARGEST_TOKENIZER_BYTES:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return len(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # its own type, for whatever the file may hold: the worker has the sentence
        return None


def require_target(model: ModelConfig) -> None:
    """Raise `ModelUnavailable` when there is no such module, or its file certainly binds no such name."""
    if model.weights != "python" or model.target is None:
        return
    module, _, attribute = model.target.partition(":")
    top, name = module.partition(".")[0], attribute.partition(".")[0]
    if top in sys.modules:
        return
    here = str(Path.cwd())
    spec = _found(top, here)
    if spec is None:
        raise ModelUnavailable(
            f"model.target={model.target}: there is no module {top} in {here} or on Python's path (PYTHONPATH)"
        )
    bound = _bound_names(Path(spec.origin)) if module == top and spec.origin and spec.has_location else None
    if bound is not None and name not in bound:
        near = get_close_matches(name, sorted(bound), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelUnavailable(f"model.target={model.target}: {module} has no {name}{hint}")


def _found(top: str, here: str) -> ModuleSpec | None:
    """The spec of a top-level module, which is not imported; searched in this folder first, as the worker does."""
    sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(top)
    finally:
        sys.path.remove(here)


def _bound_names(file: Path) -> set[str] | None:
    """Every name that a module's text may bind; None where others may come to be."""
    if file.suffix != ".py" or file.name == "__init__.py":  # a package also has its modules
        return None
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return None
    names = {name for node in nodes for name in _names(node)}
    return None if DYNAMIC & names or "*" in names else names


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case _:
            return


# What a run needs of this machine: one process, packages, a device, a folder to write to, and a plan that fits.


BUILT_FOR = re.compile(r"^(cuda|hip)\b[^=]*=\s*(.+)$", re.MULTILINE)
VERSION = re.compile(r"^__version__\s*=\s*['\"](.+)['\"]$", re.MULTILINE)
# Any of these may lead to a CUDA device: NVIDIA's driver, Jetson's, Windows beneath Linux, AMD's.
DRIVER_FILES = ("nvidiactl", "nvidia0", "nvhost-ctrl", "nvmap", "nvgpu", "dxg", "kfd")
DEV = Path("/dev")
# Variables that tell one of several processes how many there are, with another that each launcher sets beside it, and
# the launcher's name. SLURM_NTASKS is not among them: a batch script that starts one process has it too.
COUNTS = {
    "WORLD_SIZE": ("RANK", "torchrun or a launcher like it"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "mpirun"),
    "MV2_COMM_WORLD_SIZE": ("MV2_COMM_WORLD_RANK", "mpirun"),
    "PMI_SIZE": ("PMI_RANK", "mpirun"),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "srun"),
}


def ready_plan(config: Config) -> Plan:
    """The plan of a checked configuration that this machine can measure as far as can be told within a second.

    Raises `BadInput`: packages, prompt files, the device, the model's files or folder, the lengths of the prompts.
    """
    require_packages(config)
    plan = make_plan(config)
    require_ready(plan)
    return plan


def require_ready(plan: Plan) -> None:
    """Raise `BadInput` for what a plan lacks on this machine besides packages."""
    config = plan.config
    if config.model.weights == "scripted":
        return
    require_device(config.device)
    require_target(config.model)
    folder = found_folder(config.model)
    if folder is not None:
        require_lengths(plan, folder)


def require_one_process(environ: Mapping[str, str] = os.environ, ranks: int = 1) -> None:
    """Raise `ConfigError` where a launcher has started this program more than once.

    A model that is shared out over `ranks` may have as many, started by torchrun.
    """
    for count, (rank, launcher) in COUNTS.items():
        number = environ.get(count, "")
        if rank in environ and number.isdecimal() and int(number) > 1:
            if count == "WORLD_SIZE" and int(number) == ranks:
                continue
            if ranks > 1:
                raise ConfigError(
                    f"{launcher} has started {number} processes ({count}={number}), and model.tensor_parallel={ranks}"
                    f" needs {ranks} of torchrun's: start one without a launcher, kvbench starts the ranks itself"
                )
            raise ConfigError(
                f"{launcher} has started {number} processes ({count}={number}), and each would measure the whole model"
                " by itself while the others disturb its times: start one, without the launcher"
            )


def require_results_dir(results_dir: str) -> None:
    """Raise `RecordError` when the folder cannot be made, or nothing can be made in it."""
    folder = Path(results_dir).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    reason = errno.ENOTDIR if not nearest.is_dir() else None if os.access(nearest, os.W_OK | os.X_OK) else errno.EACCES
    if reason is not None:
        raise RecordError(
            f"results_dir={results_dir}: cannot create {Path(results_dir)} ({os.strerror(reason)}); choose one you can"
            " write to"
        )


def require_packages(config: Config) -> None:
    """Raise `ConfigError` for a choice whose package is not installed, or for a library that is too old.

    Apart from `check`, since a configuration is right or wrong wherever it is read.
    """
    missing = None if config.model.weights == "scripted" else too_old()
    missing = missing or _without_weights_package(config.model.quantization)
    missing = missing or _without_tracker(config.track)
    for arm in config.every_arm:
        missing = missing or _without_attention_package(arm.attention) or _without_cache_package(arm.cache_kind)
    if missing is not None:
        raise ConfigError(missing)


def is_installed(module: str) -> bool:
    """Whether a module could be imported here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def _without_attention_package(name: str) -> str | None:
    package, module = ATTENTION_PACKAGES.get(name, (None, None))
    return _missing(f"attention={name}", package, module)


def _without_cache_package(kind: CacheKind | None) -> str | None:
    if kind is None:
        return None
    return _missing(f"cache={kind.name}", kind.package, kind.package, extra=kind.backend)


def _without_weights_package(quantization: str) -> str | None:
    package = QUANTIZATIONS[quantization].package
    return _missing(f"model.quantization={quantization}", package, package, extra=package)


def _without_tracker(name: str | None) -> str | None:
    return _missing(f"track={name}", name, name, extra=name)


def _missing(choice: str, package: str | None, module: str | None, extra: str | None = None) -> str | None:
    """Why a package that a choice needs is not there, or None when it is. Looking for one does not import it."""
    if module is None or is_installed(module):
        return None
    remedy = install_hint(extra) if extra else "install it, or use another"
    return f"{choice} needs the package {package}, which is not installed: {remedy}"


def require_device(device: str) -> None:
    """Raise `DeviceUnavailable` when torch cannot find the device that a configuration names."""
    kind, _, index = device.partition(":")
    if kind == "mps" and sys.platform != "darwin":
        raise DeviceUnavailable(f"device={device}: Apple's GPUs are used on macOS alone; use device=auto or cpu")
    if kind == "cuda" and (reason := _no_cuda()):
        raise DeviceUnavailable(f"device={device}: {reason}; use device=auto or cpu")
    if kind == "cuda" and index:
        most = most_devices(os.environ)
        if most is not None and int(index) >= most:
            usable = "no device" if most == 0 else ", ".join(f"cuda:{number}" for number in range(most))
            raise DeviceUnavailable(f"device={device}: there is no such GPU; torch can use {usable}")


@cache
def _no_cuda() -> str | None:
    """Why no CUDA or ROCm device can be had, or None where there may be one."""
    if without_gpu := build_without_gpu(_torch_version_file()):
        return without_gpu
    if not sys.platform.startswith("linux") or any((DEV / name).exists() for name in DRIVER_FILES):
        return None
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no GPU driver on this machine (neither device files nor libcuda.so.1)"
    return None


def build_without_gpu(version_file: str | None) -> str | None:
    """What to say of a torch that was built for the CPU alone, by the text of its version.py; None of any other."""
    if version_file is None:
        return None
    built_for = {name: value.strip() for name, value in BUILT_FOR.findall(version_file)}
    if built_for.get("cuda") != "None" or built_for.get("hip") != "None":
        return None
    version = VERSION.search(version_file)
    return f"torch {version[1] if version else ''} is built without GPU support: install one that is built with it"


def _torch_version_file() -> str | None:
    found = importlib.util.find_spec("torch")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder) / "version.py"
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
    return None


def most_devices(environ: Mapping[str, str], nvml: Any = None) -> int | None:
    """No more NVIDIA devices than this can be seen; None where that is not certain, as with MIG or without NVML."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    names = None if listed is None else [name for name in listed.split(",") if name.strip()]
    if names is not None and any(name.strip().startswith("MIG") for name in names):
        return None
    count = _nvml_count(nvml)
    if count is None:
        return None
    return count if names is None else min(count, len(names))


def _nvml_count(nvml: Any) -> int | None:
    """Devices that NVML lists; None where it cannot tell, or where one is cut into several by MIG."""
    try:
        nvml = nvml or importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:
        return None
    try:
        count = int(nvml.nvmlDeviceGetCount())
        return None if any(_is_cut(nvml, index) for index in range(count)) else count
    except Exception:
        return None
    finally:
        nvml.nvmlShutdown()


def _is_cut(nvml: Any, index: int) -> bool:
    try:
        return any(nvml.nvmlDeviceGetMigMode(nvml.nvmlDeviceGetHandleByIndex(index)))
    except Exception:  # a device that knows no MIG
        return False
