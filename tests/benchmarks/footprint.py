"""What the harness costs in memory: peak resident bytes of parent and worker, beside a bare loop over the same model.

python tests/benchmarks/footprint.py [KEY=VALUE ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

# Each runs in a fresh interpreter and prints peak resident kilobytes: its own, and its largest child's.
KVBENCH = """
import resource, sys
from kvbench.models.signature import library_cache
from kvbench.__main__ import main
main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
BARE_LOOP = """
import resource, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from kvbench.model_folder import EMBEDDED
from kvbench.plan import bundled_prompts
model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
with torch.inference_mode():
    for prompt in bundled_prompts():
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        for _ in range(64):
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        cache, newest = DynamicCache(config=model.config), ids
        for _ in range(64):
            logits = model(input_ids=newest, **library_cache(cache), use_cache=True, logits_to_keep=1).logits
            newest = logits[:, -1].argmax(-1, keepdim=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        parent, worker = peaks_mib(KVBENCH, f"results_dir={folder}", *sys.argv[1:])
    bare, _ = peaks_mib(BARE_LOOP)
    print(f"parent, report built        {parent:6.0f} MiB")
    print(f"worker                      {worker:6.0f} MiB")
    print(f"bare loop                   {bare:6.0f} MiB")
    print(f"worker over the bare loop   {worker - bare:6.0f} MiB")


def peaks_mib(program: str, *arguments: str) -> tuple[float, float]:
    """Peak resident MiB of a program and of its largest child."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    own, child = done.stdout.split()[-2:]
    return int(own) / 1024, int(child) / 1024


if __name__ == "__main__":
    main()
