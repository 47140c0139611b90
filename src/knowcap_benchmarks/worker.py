"""One measurement in this process: `python -m knowcap_benchmarks.worker REQUEST`.

The request is JSON with the measurement's name and arguments. The last line of the output is the
result as JSON.
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
"""Length of rendered windows in tokens."""

MATMUL_TIME_LIMIT_S = 2.0
"""Total time after which a matrix product is not repeated."""


def training(
    case: dict[str, Any], implementation: str, num_threads: int, check_steps: int, seconds: float
) -> dict[str, Any]:
    """Time the training steps of one implementation."""
    import torch

    from knowcap_benchmarks.peers import build
    from knowcap_benchmarks.token_feed import TokenFeed

    start = time.perf_counter()
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    case_record = Case.model_validate(case)
    chosen = IMPLEMENTATIONS[implementation]
    device = torch.device(case_record.device)
    trainable = build(case_record, chosen, device)
    num_models = case_record.num_replicates if chosen.trains_replicates else 1
    feed = TokenFeed(case_record, num_models, device, check_steps, seconds)
    trainable.train(feed)
    gpu_bytes = torch.cuda.max_memory_allocated() if case_record.device == "cuda" else 0
    return {
        "tokens_per_s": feed.tokens_per_s,
        "step_ms": 1e3 * statistics.median(feed.step_s),
        "num_steps": len(feed.step_s),
        "losses_nats": feed.losses,
        "num_params": trainable.num_params,
        "start_s": time.perf_counter() - start - sum(feed.step_s),
        "gpu_bytes": gpu_bytes,
    }


def matmul_speed(num_threads: int, device: str) -> dict[str, float]:
    """Measure the speed of large matrix products by dtype, in GFLOP/s."""
    import torch

    torch.set_num_threads(num_threads)
    size = 1024 if device == "cpu" else 8192
    gflops = {}
    for dtype in (torch.float32, torch.bfloat16):
        left = torch.randn(size, size, device=device).to(dtype)
        times: list[float] = []
        # Where bfloat16 is emulated, one product takes seconds.
        while len(times) < 8 and sum(times) < MATMUL_TIME_LIMIT_S:
            start = time.perf_counter()
            product = left @ left
            float(product[0, 0])  # synchronizes a GPU
            times.append(time.perf_counter() - start)
        gflops[str(dtype).removeprefix("torch.")] = 2e-9 * size**3 / min(times)
    return gflops


def rendering(corpus: dict[str, Any], exposures: int, seconds: float) -> dict[str, float]:
    """Time making a corpus and rendering the windows of a training from it."""
    from knowcap.data.corpus import load_corpus
    from knowcap.data.corpus_writer import write_corpus

    record = Corpus.model_validate(corpus)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_corpus(record, Path(folder), None)
        written = time.perf_counter()
        stream = load_corpus(Path(folder)).stream(exposures, 0)
        loaded = time.perf_counter()
    length = stream.length(WINDOW)
    counted = time.perf_counter()
    times: list[float] = []
    speeds: list[float] = []
    position = stream.start
    while not times or sum(times) < seconds:
        render_start = time.perf_counter()
        windows, position = stream.windows(2**11, WINDOW, position)
        times.append(time.perf_counter() - render_start)
        num_tokens = int((windows[:, 1:] >= 0).sum())
        speeds.append(num_tokens / times[-1])
        if num_tokens < windows[:, 1:].size:  # end of the stream
            position = stream.start
    return {
        "tokens_per_s": statistics.median(speeds),
        "corpus_s": written - start,
        "load_s": loaded - written,
        "count_s": counted - loaded,
        "num_tokens": length.num_tokens,
    }


MEASUREMENTS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (training, matmul_speed, rendering)
}


def main(request: str) -> None:
    """Make the requested measurement and print its result as one line of JSON."""
    arguments = json.loads(request)
    result = MEASUREMENTS[arguments.pop("measurement")](**arguments)
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write("\n" + json.dumps({**result, "peak_bytes": peak_bytes}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
