# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead of the diagonal mixture ops.

PyTorch: log-likelihood and all gradients as matrix products, log joint = x^2 A + x B + c, through autograd;
whole and in chunks of rows that stay in cache, eager and by torch.compile. scikit-learn (CPU): one E and one
M step of GaussianMixture(covariance_type="diag"). All in float32.
"""
import argparse
import json
import math
import statistics
import sys
import time
import warnings

CASES = [(100_000, 64, 16), (1_000_000, 256, 2), (20_000, 1024, 64)]


def times(body, repetitions, synchronize=lambda: None):
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
    name = "{}/N:{}/K:{}/D:{}".format(op, *case)
    print(json.dumps({"peer": peer, "case": name, "milliseconds": milliseconds}), flush=True)


def problem(rows, components, dims):
    import numpy as np

    rng = np.random.default_rng(1)
    return (
        (1.5 * rng.standard_normal((rows, dims))).astype(np.float32),
        (0.1 * rng.standard_normal(components)).astype(np.float32),
        rng.standard_normal((components, dims)).astype(np.float32),
        (0.1 * rng.standard_normal((components, dims))).astype(np.float32),
    )


def time_torch(case, device, repetitions):
    import torch

    x, logits, mean, log_scale = (torch.from_numpy(a).to(device) for a in problem(*case))
    for parameter in (logits, mean, log_scale):
        parameter.requires_grad_()
    x2 = x * x  # made once: the data do not change
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)

    def log_likelihood(x, x2, logits, mean, log_scale):
        precision = torch.exp(-2 * log_scale)
        linear = mean * precision
        constant = torch.log_softmax(logits, 0) - (
            log_scale + 0.5 * mean * linear + 0.5 * math.log(2 * math.pi)
        ).sum(1)
        joint = torch.addmm(torch.addmm(constant, x2, (-0.5 * precision).T), x, linear.T)
        return torch.logsumexp(joint, 1).sum()

    def step(function, chunk):
        for parameter in (logits, mean, log_scale):
            parameter.grad = None
        for begin in range(0, x.shape[0], chunk):
            function(x[begin : begin + chunk], x2[begin : begin + chunk], logits, mean, log_scale).backward()

    def forward():
        with torch.no_grad():
            log_likelihood(x, x2, logits, mean, log_scale)

    name = "PyTorch " + torch.__version__.split("+")[0]
    rows = case[0]
    chunks = max(1, round(rows * case[1] / 2_000_000))
    while rows % chunks:  # equal chunks: one compilation
        chunks += 1
    report(name + ", eager", "diagonal_mixture_forward", case, times(forward, repetitions, synchronize))
    for form, function in (("eager", log_likelihood), ("compiled", torch.compile(log_likelihood, dynamic=False))):
        for label, chunk in (("", rows), (f", {chunks} chunks", rows // chunks)):
            try:
                taken = times(lambda: step(function, chunk), repetitions, synchronize)
            except Exception as error:  # no compiler, for one
                print(f"{name}, {form}{label}: {type(error).__name__}", file=sys.stderr)
                continue
            report(f"{name}, {form}{label}", "diagonal_mixture_gradients", case, taken)


def time_sklearn(case, repetitions):
    import numpy as np
    import sklearn
    from sklearn.mixture import GaussianMixture

    x, logits, mean, log_scale = problem(*case)
    weights = np.exp(logits - logits.max())
    start = {
        "weights_": weights / weights.sum(),
        "means_": mean,
        "covariances_": np.exp(2 * log_scale),
        "precisions_cholesky_": np.exp(-log_scale),
    }
    model = GaussianMixture(case[1], covariance_type="diag")

    def step():
        for name, value in start.items():
            setattr(model, name, value)
        _, log_resp = model._e_step(x)
        model._m_step(x, log_resp)

    report("scikit-learn " + sklearn.__version__, "diagonal_mixture_em", case, times(step, repetitions))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--cases", default="0,1,2", help="which of the three sizes")
    args = parser.parse_args()

    warnings.filterwarnings("ignore")
    try:
        import torch

        torch.set_num_threads(args.threads)
    except ImportError:
        torch = None
    try:
        import sklearn
        from threadpoolctl import threadpool_limits

        threadpool_limits(args.threads)
    except ImportError:
        sklearn = None
    if torch is None and sklearn is None:
        print("neither PyTorch nor scikit-learn is installed", file=sys.stderr)
        return 77
    if args.device == "cuda" and (torch is None or not torch.cuda.is_available()):
        print("no PyTorch that sees a GPU", file=sys.stderr)
        return 77

    for case in (CASES[int(index)] for index in args.cases.split(",")):
        if torch is not None:
            time_torch(case, args.device, args.repetitions)
        if sklearn is not None and args.device == "cpu":
            time_sklearn(case, max(1, args.repetitions // 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
