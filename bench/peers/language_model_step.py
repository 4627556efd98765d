# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead for a training step of an LSTM language model.

PyTorch: the same layers (nn.Embedding, nn.LSTM, nn.Linear and cross_entropy), forward, backward and SGD with clipping,
eager and by torch.compile; on a CPU also with the output layer's products in bfloat16 (autocast).
"""
import argparse
import json
import statistics
import sys
import time
import warnings

BATCH, STEPS, HIDDEN, WORDS = 32, 35, 256, 10_000


def times(body, repetitions, synchronize):
    for _ in range(3):
        body()
    synchronize()
    taken = []
    for _ in range(5 * repetitions):
        start = time.perf_counter()
        body()
        synchronize()
        taken.append((time.perf_counter() - start) * 1e3)
    return {"min": round(min(taken), 3), "median": round(statistics.median(taken), 3)}


def time_torch(form, device, repetitions):
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.manual_seed(1)
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    embedding = nn.Embedding(WORDS, HIDDEN).to(device)
    lstm = nn.LSTM(HIDDEN, HIDDEN).to(device)
    output = nn.Linear(HIDDEN, WORDS).to(device)
    parameters = [*embedding.parameters(), *lstm.parameters(), *output.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.1)
    words = torch.randint(WORDS, (STEPS, BATCH), device=device)
    following = torch.randint(WORDS, (STEPS * BATCH,), device=device)

    def loss(words, following):
        h, _ = lstm(embedding(words))
        with torch.autocast(device, dtype=torch.bfloat16, enabled="bf16" in form):
            logits = output(h.reshape(-1, HIDDEN))
        return cross_entropy(logits.float(), following)

    run = torch.compile(loss, dynamic=False) if "compiled" in form else loss

    def step():
        optimiser.zero_grad(set_to_none=True)
        run(words, following).backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()

    name = "PyTorch {}, {}".format(torch.__version__.split("+")[0], form)
    try:
        taken = times(step, repetitions, synchronize)
    except Exception as error:  # no compiler, for one
        print(f"{name}: {type(error).__name__}", file=sys.stderr)
        return
    case = "language_model_step/" + ("bf16" if "bf16" in form else "fp32")
    print(json.dumps({"peer": name, "case": case, "milliseconds": taken}), flush=True)


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
    for form in ("eager", "compiled", "eager, bf16 output", "compiled, bf16 output"):
        time_torch(form, args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
