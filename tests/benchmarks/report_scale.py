"""What a report over thousands of runs costs: `python tests/benchmarks/report_scale.py [--runs 5000] [--keep DIR]`.

One scripted run of two arms × 8 blocks × 512 steps is measured once; its record is written again with other names,
lengths, batches, devices and speeds, its step table linked. Printed: seconds and peak memory of `kvbench report` as a
process, the page's size, and, where Chromium is installed, when the page is drawn and answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = ("scripted-a", "scripted-b", "scripted-c")
DEVICES = ("Some CPU", "Some GPU")
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8)
CHROMIUM = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)


def main() -> None:
    """Make the runs, build the page, open it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--keep", type=Path, help="make the runs here and leave them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        if not (folder / "runs").exists():
            make(folder, arguments.runs)
        page = folder / "report.html"
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "kvbench", "report", str(folder / "runs"), "--output", str(page)], check=True
        )
        seconds = time.perf_counter() - began
        size = page.stat().st_size / 2**20
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak, of_cpu = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
        print(f"{arguments.runs} runs: built in {seconds:.1f} s ({of_cpu:.1f} of CPU)")
        print(f"peak {peak:.0f} MiB, page {size:.1f} MiB")
        if shutil.which("chromedriver"):
            open_page(page)


def make(folder: Path, count: int) -> None:
    """`count` run folders below `folder`/runs, from one measurement in virtual time."""
    command = ["model=scripted", "model.noise=0.02", "workload.prompt_tokens=256", "workload.new_tokens=513"]
    command += ["measure.blocks=8", "report=false", "launch=inline", f"results_dir={folder / 'one'}"]
    subprocess.run([sys.executable, "-m", "kvbench", *command], check=True, stdout=subprocess.DEVNULL)
    (source,) = (folder / "one").rglob("run.json")
    record = json.loads(source.read_text(encoding="utf-8"))
    chance = random.Random(0)
    arms = json.dumps(record["arms"], indent=1)  # most of a record, and the same in all of them
    for number in range(count):
        run = folder / "runs" / f"run-{number:05}"
        run.mkdir(parents=True)
        text = json.dumps(varied(record, number, chance) | {"arms": "ARMS"}, indent=1)
        (run / "run.json").write_text(text.replace('"ARMS"', arms), encoding="utf-8")
        for name in ("steps.parquet", "prompts.jsonl", "blocks.jsonl", "config.yaml"):
            os.link(source.parent / name, run / name)


def varied(record: dict, number: int, chance: random.Random) -> dict:
    """The record under another name, length, batch, device and speed-up; every fiftieth is not VALID."""
    length, batch = chance.choice(LENGTHS), chance.choice(BATCHES)
    factor = (length / 256) ** 0.5 * chance.uniform(0.9, 1.1)
    changed = {
        **record,
        "run_id": f"{record['run_id']}-{number}",
        "created_at": f"2026-01-01T00:00:00.{number:06}+00:00",
    }
    name = chance.choice(MODELS)
    changed["config"] = {**record["config"], "name": name}
    changed["model"] = {**record["model"], "name": name}
    changed["environment"] = {**record["environment"], "device_name": chance.choice(DEVICES)}
    changed["workload"] = {**record["workload"], "prompt_tokens": [length] * batch, "batch_size": batch}
    pair = json.loads(json.dumps(record["comparison"]))
    for key in ("value", "ci_low", "ci_high"):
        pair["speedup"][key] *= factor
    changed["comparison"], changed["comparisons"] = pair, [pair]
    if number % 50 == 0:
        changed |= {"status": "invalid", "status_reason": "mode_proof: 3 steps submitted something else"}
    return changed


def open_page(page: Path) -> None:
    """When the table stands and the first chart is drawn, and how long a filter takes."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (*CHROMIUM, "--window-size=1280,1000"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.get(page.as_uri())
        ready = "return performance.getEntriesByName('kvbench-usable')[0]?.startTime ?? null"
        while (usable := driver.execute_script(ready)) is None:
            time.sleep(0.05)
        took = "const t = performance.now(); const s = document.querySelector('#filters select'); s.selectedIndex = 1;"
        took += "s.dispatchEvent(new Event('change', {bubbles: true})); return performance.now() - t"
        print(f"usable after {usable / 1000:.2f} s; a filter takes {driver.execute_script(took):.0f} ms")
        print(driver.execute_script("return document.getElementById('count').textContent"))
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
