# SPDX-License-Identifier: Apache-2.0
"""What the peers share: the command line, timing, and the line of JSON that scripts/bench reads."""
import argparse
import json
import statistics
import sys
import time
import warnings

NOT_HERE = 77  # exit status: the peer is not installed, or not for this device


def command_line(description):
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    return parser


def note(text):
    """A line that scripts/bench shows; what a library writes to standard error by itself it does not."""
    print("peer: " + text, file=sys.stderr)


def torch_for(args):
    """PyTorch with the threads asked for, or None with a word why not."""
    try:
        import torch
    except ImportError:
        note("PyTorch is not installed")
        return None
    torch.set_num_threads(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        note("no PyTorch that sees a GPU")
        return None
    return torch


def torch_name(torch):
    return "PyTorch " + torch.__version__.split("+")[0]


def time_peer(peer, case, body, repetitions, device="cpu", warm_up=3):
    """Prints how long body() takes; a form that does not run here (no compiler, for one) is left out."""
    if device == "cuda":
        import torch

        synchronize = torch.cuda.synchronize
    else:
        synchronize = lambda: None
    taken = []
    try:
        for _ in range(warm_up):
            body()
        synchronize()
        for _ in range(repetitions):
            start = time.perf_counter()
            body()
            synchronize()
            taken.append((time.perf_counter() - start) * 1e3)
    except Exception as error:
        note(f"{peer}: {type(error).__name__}")
        return
    milliseconds = {"min": round(min(taken), 3), "median": round(statistics.median(taken), 3)}
    print(json.dumps({"peer": peer, "case": case, "milliseconds": milliseconds}), flush=True)
