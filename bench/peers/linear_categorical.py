# SPDX-License-Identifier: Apache-2.0
"""What users would pick instead of linear_categorical.

PyTorch: cross_entropy(linear(hidden, weight, bias), labels) and its gradients, which stores the logits, eager and
by torch.compile, in float32; and the same with autocast to bfloat16.
"""
import sys

from support.peer import NOT_HERE, command_line, time_peer, torch_for, torch_name

CASES = [(50_000, 256, 512), (18_722, 256, 1024), (10_000, 256, 32), (10_000, 64, 1)]


def time_torch(case, device, repetitions):
    import torch
    from torch.nn.functional import cross_entropy, linear

    words, width, rows = case
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    weight = (0.0625 * torch.randn(words, width, generator=generator)).to(device).requires_grad_()
    bias = (0.1 * torch.randn(words, generator=generator)).to(device).requires_grad_()
    labels = torch.randint(0, words, (rows,), generator=generator).to(device)

    def loss(hidden, weight, bias, labels):
        return cross_entropy(linear(hidden, weight, bias), labels, reduction="sum")

    def half_loss(hidden, weight, bias, labels):
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = linear(hidden, weight, bias)
        return cross_entropy(logits.float(), labels, reduction="sum")

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
                sizes = "V:{}/H:{}/B:{}".format(*case)
                time_peer(f"{torch_name(torch)}, {form}", f"linear_categorical_{op}{suffix}/{sizes}", body, repetitions, device)


def main():
    parser = command_line(__doc__)
    parser.add_argument("--cases", default="0,1,2,3", help="which of the sizes")
    args = parser.parse_args()
    if torch_for(args) is None:
        return NOT_HERE
    for index in args.cases.split(","):
        time_torch(CASES[int(index)], args.device, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
