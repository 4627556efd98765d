# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead for a training step of an LSTM language model.

PyTorch: the same layers (nn.Embedding, nn.LSTM, nn.Linear and cross_entropy), forward, backward and SGD with clipping,
eager and by torch.compile; on a CPU also with the output layer's products in bfloat16 (autocast).
"""
import sys

from support.peer import NOT_HERE, command_line, time_peer, torch_for, torch_name

BATCH, STEPS, HIDDEN, WORDS = 32, 35, 256, 10_000


def time_torch(form, device, repetitions):
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.manual_seed(1)
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

    case = "language_model_step/" + ("bf16" if "bf16" in form else "fp32")
    time_peer(f"{torch_name(torch)}, {form}", case, step, 5 * repetitions, device)


def main():
    args = command_line(__doc__).parse_args()
    if torch_for(args) is None:
        return NOT_HERE
    for form in ("eager", "compiled", "eager, bf16 output", "compiled, bf16 output"):
        time_torch(form, args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
