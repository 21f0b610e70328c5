"""One job of `fit.py`, in a process of its own: prints its result as one line of JSON, the last on standard output.

python benchmarks/one_fit.py '{"side": "plain", "work": "fashion", "epochs": 1, "seed": 1, "limit": 6000}'
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from sides import WORKS, Clock, Job, fit_fast, fit_lightning, fit_plain, fit_skorch, fit_trackdl
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trackdl.data.images import load_images, normalise
from trackdl.spec import ImageData
from trackdl.system import processes
from trackdl.training.devices import resolve_precision

GEMM_SIDE = 2048
GEMM_REPEATS = 20


def run(job: Job) -> dict[str, Any]:
    """Do a job and return what was measured.

    Returns:
        For a fit: `seconds` (of named blocks; "fit" is the whole), `images` trained on, `accuracy` on the test images,
        `peak_mb` of this process up to the fit's end. For the side "machine": what `describe_machine` returns.
    """
    if job.side == "machine":
        return describe_machine()
    if job.side in ("trackdl", "layers", "fast", "tracked", "untracked"):
        processes.keep_memory()  # as the command line does
    clock = Clock()
    model = _side(job.side)(job, clock)
    # Kilobytes on Linux. A process starts with its parent's peak, which is small: fit.py imports no library.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    images = load_images(ImageData(dataset=job.work))
    trained = len(images.train_labels[: job.limit]) * job.epochs
    inputs = normalise(images.test_images, *WORKS[job.work].mean_std)
    with torch.inference_mode():
        outputs = torch.cat([model.eval()(batch) for batch in torch.split(inputs, 1000)])
    accuracy = (outputs.argmax(dim=1) == images.test_labels).double().mean().item()
    return {"seconds": clock.seconds, "images": trained, "accuracy": accuracy, "peak_mb": peak}


def _side(name: str) -> Callable[[Job, Clock], nn.Module]:
    if name in ("tracked", "untracked"):
        import tracked  # MLflow takes seconds and memory: only these sides load it

        return tracked.fit_tracked if name == "tracked" else tracked.fit_untracked
    return {
        "trackdl": fit_trackdl,
        "layers": fit_trackdl,
        "fast": fit_fast,
        "plain": fit_plain,
        "skorch": fit_skorch,
        "lightning": fit_lightning,
    }[name]


def describe_machine() -> dict[str, Any]:
    """Return threads, torch's version, the precision that auto chooses, GEMM peaks, and the networks' operations."""
    precision = str(resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": precision,
        # A processor without bfloat16 of its own would take minutes for the other peak, and no side computes in it.
        "gemm_gflops": {name: gemm_peak(getattr(torch, name)) for name in sorted({"float32", precision})},
        "mflop_per_image": {name: mflop_per_image(name) for name in WORKS},
    }


def gemm_peak(dtype: torch.dtype) -> float:
    """Return the best rate of torch.mm on square matrices, GFLOP/s."""
    a = torch.randn(GEMM_SIDE, GEMM_SIDE).to(dtype)
    best = float("inf")
    for _ in range(GEMM_REPEATS):
        began = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - began)
    return 2 * GEMM_SIDE**3 / best / 1e9


def mflop_per_image(name: str) -> float:
    """Return the millions of floating-point operations of one image's forward and backward pass."""
    work = WORKS[name]
    model, inputs = work.network(), torch.zeros(work.batch_size, 1, 28, 28)
    with FlopCounterMode(display=False) as counter:
        work.loss(model(inputs), torch.zeros(work.batch_size, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops() / work.batch_size / 1e6


if __name__ == "__main__":
    print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
