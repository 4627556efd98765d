# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead of linear_categorical.

PyTorch: cross_entropy(linear(hidden, weight, bias), labels) and its gradients, which stores the logits, eager and
by torch.compile, in float32; and the same with autocast to bfloat16.
"""
import argparse
import json
import statistics
import sys
import time
import warnings

CASES = [(50_000, 256, 512), (18_722, 256, 1024), (10_000, 256, 32), (10_000, 64, 1)]


def times(body, repetitions, synchronize):
    for _ in range(2):
        body()
    synchronize()
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        body()
        synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return {"min": round(min(taken), 3), "median": round(statistics.median(taken), 3)}


def report(peer, op, case, milliseconds):
    name = "{}/V:{}/H:{}/B:{}".format(op, *case)
    print(json.dumps({"peer": peer, "case": name, "milliseconds": milliseconds}), flush=True)


def time_torch(case, device, repetitions):
    import torch
    from torch.nn.functional import cross_entropy, linear

    words, width, rows = case
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    weight = (0.0625 * torch.randn(words, width, generator=generator)).to(device).requires_grad_()
    bias = (0.1 * torch.randn(words, generator=generator)).to(device).requires_grad_()
    labels = torch.randint(0, words, (rows,), generator=generator).to(device)
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)

    def loss(hidden, weight, bias, labels):
        return cross_entropy(linear(hidden, weight, bias), labels, reduction="sum")

    def half_loss(hidden, weight, bias, labels):
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = linear(hidden, weight, bias)
        return cross_entropy(logits.float(), labels, reduction="sum")

    name = "PyTorch " + torch.__version__.split("+")[0]
    for suffix, function in (("", loss), ("_bfloat16", half_loss)):
        for form in ("eager", "compiled"):
            run = function if form == "eager" else torch.compile(function, dynamic=False)

            def forward():
                with torch.no_grad():
                    run(hidden, weight, bias, labels)

            def gradients():
                for parameter in (hidden, weight, bias):
                    parameter.grad = None
                run(hidden, weight, bias, labels).backward()

            for op, body in (("forward", forward), ("gradients", gradients)):
                try:
                    taken = times(body, repetitions, synchronize)
                except Exception as error:  # no compiler, for one
                    print(f"{name}, {form}{suffix}: {type(error).__name__}", file=sys.stderr)
                    continue
                report(f"{name}, {form}", f"linear_categorical_{op}{suffix}", case, taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--cases", default="0,1,2,3", help="which of the sizes")
    args = parser.parse_args()

    warnings.filterwarnings("ignore")
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed", file=sys.stderr)
        return 77
    torch.set_num_threads(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no PyTorch that sees a GPU", file=sys.stderr)
        return 77
    for index in args.cases.split(","):
        time_torch(CASES[int(index)], args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
