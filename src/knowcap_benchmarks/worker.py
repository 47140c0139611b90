"""One measurement in a process of its own: `python -m knowcap_benchmarks.worker REQUEST`.

A request is JSON: what is measured and its arguments. The last line of the answer is JSON too.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knowcap.config import Corpus
from knowcap_benchmarks.cases import Case
from knowcap_benchmarks.implementations import IMPLEMENTATIONS

WINDOW = 512
"""Tokens of the windows that are rendered."""

LONGEST_S = 2.0
"""Time after which a product is not measured once more."""


def training(
    case: dict[str, Any], implementation: str, num_threads: int, check_steps: int, seconds: float
) -> dict[str, Any]:
    """Time the steps of one implementation."""
    import torch

    from knowcap_benchmarks.peers import build
    from knowcap_benchmarks.token_feed import Feed

    begun = time.perf_counter()
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    asked, who = Case.model_validate(case), IMPLEMENTATIONS[implementation]
    device = torch.device(asked.device)
    built = build(asked, who, device)
    num_models = asked.num_replicates if who.stacks else 1
    feed = Feed(asked, num_models, device, check_steps, seconds)
    built.train(feed)
    gpu_bytes = torch.cuda.max_memory_allocated() if asked.device == "cuda" else 0
    return {
        "tokens_per_s": feed.tokens_per_s,
        "step_ms": 1e3 * statistics.median(feed.step_s),
        "num_steps": len(feed.step_s),
        "losses_nats": feed.losses,
        "num_params": built.num_params,
        "start_s": time.perf_counter() - begun - sum(feed.step_s),
        "gpu_bytes": gpu_bytes,
    }


def products(num_threads: int, device: str) -> dict[str, float]:
    """Measure how many 10^9 operations a second large products of matrices reach, by dtype."""
    import torch

    torch.set_num_threads(num_threads)
    size = 1024 if device == "cpu" else 8192
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(size, size, device=device).to(dtype)
        times: list[float] = []
        # A processor that cannot multiply bfloat16 takes seconds for one.
        while len(times) < 8 and sum(times) < LONGEST_S:
            begun = time.perf_counter()
            product = left @ left
            float(product[0, 0])  # waits for a GPU
            times.append(time.perf_counter() - begun)
        found[str(dtype).removeprefix("torch.")] = 2e-9 * size**3 / min(times)
    return found


def rendering(corpus: dict[str, Any], exposures: int, seconds: float) -> dict[str, float]:
    """Make a corpus and render the windows that a training would read from it."""
    from knowcap.data.corpus import load_corpus, write_corpus

    asked = Corpus.model_validate(corpus)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        write_corpus(asked, Path(folder), None)
        made = time.perf_counter()
        stream = load_corpus(Path(folder)).stream(exposures, 0)
        loaded = time.perf_counter()
    length = stream.length(WINDOW)
    counted = time.perf_counter()
    times: list[float] = []
    rates: list[float] = []
    position = stream.start
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        windows, position = stream.windows(2**11, WINDOW, position)
        times.append(time.perf_counter() - start)
        num_tokens = int((windows[:, 1:] >= 0).sum())
        rates.append(num_tokens / times[-1])
        if num_tokens < windows[:, 1:].size:  # the stream is at its end
            position = stream.start
    return {
        "tokens_per_s": statistics.median(rates),
        "corpus_s": made - begun,
        "load_s": loaded - made,
        "count_s": counted - loaded,
        "num_tokens": length.num_tokens,
    }


MEASURES: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (training, products, rendering)
}


def main(request: str) -> None:
    """Measure what a request asks for and print it as one line of JSON."""
    asked = json.loads(request)
    answer = MEASURES[asked.pop("measure")](**asked)
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write("\n" + json.dumps({**answer, "peak_bytes": peak_bytes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
