# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead for a training step by the IWAE bound.

PyTorch: the same networks, forward, backward and Adam (fused where there is a fused one), eager and by torch.compile.
"""
import sys

from support.peer import NOT_HERE, command_line, time_peer, torch_for, torch_name

BATCH, PIXELS, HIDDEN, LATENT = 100, 784, 200, 50


def time_torch(draws, device, repetitions):
    import torch
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits

    torch.manual_seed(1)
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

        time_peer(f"{torch_name(torch)}, {form}", f"iwae_step/K:{draws}", step, 10 * repetitions, device)


def main():
    args = command_line(__doc__).parse_args()
    if torch_for(args) is None:
        return NOT_HERE
    for draws in (1, 5, 50):
        time_torch(draws, args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
