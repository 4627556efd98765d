# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead of the diagonal mixture ops.

PyTorch: log-likelihood and all gradients as matrix products, log joint = x^2 A + x B + c, through autograd;
whole and in chunks of rows that stay in cache, eager and by torch.compile. scikit-learn (CPU): one E and one
M step of GaussianMixture(covariance_type="diag"). All in float32.
"""
import math
import sys

from support.peer import NOT_HERE, command_line, note, time_peer, torch_for, torch_name

CASES = [(100_000, 64, 16), (1_000_000, 256, 2), (20_000, 1024, 64)]


def case_name(op, case):
    return "{}/N:{}/K:{}/D:{}".format(op, *case)


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

    name = torch_name(torch)
    rows = case[0]
    chunks = max(1, round(rows * case[1] / 2_000_000))
    while rows % chunks:  # equal chunks: one compilation
        chunks += 1
    time_peer(name + ", eager", case_name("diagonal_mixture_forward", case), forward, repetitions, device, warm_up=1)
    forms = {"eager": log_likelihood}
    if hasattr(torch, "compile"):  # since 2.0
        forms["compiled"] = torch.compile(log_likelihood, dynamic=False)
    for form, function in forms.items():
        for label, chunk in (("", rows), (f", {chunks} chunks", rows // chunks)):
            time_peer(f"{name}, {form}{label}", case_name("diagonal_mixture_gradients", case),
                      lambda: step(function, chunk), repetitions, device, warm_up=1)


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

    time_peer("scikit-learn " + sklearn.__version__, case_name("diagonal_mixture_em", case), step, repetitions, warm_up=1)


def main():
    parser = command_line(__doc__)
    parser.add_argument("--cases", default="0,1,2", help="which of the three sizes")
    args = parser.parse_args()
    torch = torch_for(args)
    try:
        import sklearn
        from threadpoolctl import threadpool_limits

        threadpool_limits(args.threads)
    except ImportError:
        note("scikit-learn is not installed")
        sklearn = None
    if torch is None and (sklearn is None or args.device == "cuda"):
        return NOT_HERE

    for case in (CASES[int(index)] for index in args.cases.split(",")):
        if torch is not None:
            time_torch(case, args.device, args.repetitions)
        if sklearn is not None and args.device == "cpu":
            time_sklearn(case, max(1, args.repetitions // 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
