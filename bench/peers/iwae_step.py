# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead for a training step by the IWAE bound.

PyTorch: the same networks, forward, backward and Adam (fused where there is a fused one), eager and by torch.compile.
"""
import argparse
import json
import statistics
import sys
import time
import warnings

BATCH, PIXELS, HIDDEN, LATENT = 100, 784, 200, 50


def times(body, repetitions, synchronize):
    for _ in range(3):
        body()
    synchronize()
    taken = []
    for _ in range(10 * repetitions):
        start = time.perf_counter()
        body()
        synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return {"min": round(min(taken), 3), "median": round(statistics.median(taken), 3)}


def time_torch(draws, device, repetitions):
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    torch.manual_seed(1)
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    x = (torch.rand(BATCH, PIXELS) < 0.25).float().to(device)

    def network(first, last):
        return nn.Sequential(nn.Linear(first, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(),
                             nn.Linear(HIDDEN, last)).to(device)

    for form in ("eager", "compiled"):
        encoder, decoder = network(PIXELS, 2 * LATENT), network(LATENT, PIXELS)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        try:
            optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        except (RuntimeError, TypeError):  # an older one
            optimiser = torch.optim.Adam(parameters, lr=1e-3)

        def loss(x):
            mean, log_scale = encoder(x).chunk(2, -1)
            noise = torch.randn(BATCH, draws, LATENT, device=device)
            z = mean[:, None] + log_scale.exp()[:, None] * noise
            target = x[:, None].expand(BATCH, draws, PIXELS)
            likelihood = -binary_cross_entropy_with_logits(decoder(z), target, reduction="none").sum(-1)
            # The constants of the two normal densities cancel.
            log_weights = likelihood - 0.5 * (z * z).sum(-1) + (log_scale[:, None] + 0.5 * noise * noise).sum(-1)
            return -torch.logsumexp(log_weights, -1).mean()

        run = loss if form == "eager" else torch.compile(loss, dynamic=False)

        def step():
            optimiser.zero_grad(set_to_none=True)
            run(x).backward()
            optimiser.step()

        name = "PyTorch {}, {}".format(torch.__version__.split("+")[0], form)
        try:
            taken = times(step, repetitions, synchronize)
        except Exception as error:  # no compiler, for one
            print(f"{name}: {type(error).__name__}", file=sys.stderr)
            continue
        print(json.dumps({"peer": name, "case": f"iwae_step/K:{draws}", "milliseconds": taken}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
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
    for draws in (1, 5, 50):
        time_torch(draws, args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
