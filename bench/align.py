#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times samples/align from text to links beside fast_align (and eflomal, if it is named), whole processes in turns.

  bench/align.py --align build/release/samples/align --fast-align .../fast_align --source F --target F

For each case: the fastest and the median time of the process, its peak memory (of its largest process, as the kernel counts
it), and the ratio to the peer's fastest. Links go to a file in memory if /dev/shm is there. Same threads, same
number of iterations; fast_align reads the two sides joined by |||, which is made here and not timed. Its
perplexity after -I k of Model 1 is compared with ours, iteration by iteration.
"""
import argparse
import gzip
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time


def lines_of(paths):
    for path in paths:
        with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield " ".join(line.split())


def run(commands, environment, output, errors):
    """Seconds and peak kilobytes of commands run one after the other."""
    taken, peak = 0.0, 0
    for command in commands:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        ]
        start = time.perf_counter()
        child = os.posix_spawnp(command[0], command, environment, file_actions=actions)
        _, status, usage = os.wait4(child, 0)
        taken += time.perf_counter() - start
        peak = max(peak, usage.ru_maxrss)
        if status != 0:
            sys.exit(f"{' '.join(command)}: status {status}\n{pathlib.Path(errors).read_text(errors='replace')[-2000:]}")
    return taken, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--align", required=True, help="our program")
    parser.add_argument("--fast-align", default=os.environ.get("FAST_ALIGN"), help="fast_align's (or FAST_ALIGN)")
    parser.add_argument("--eflomal", default=os.environ.get("EFLOMAL"), help="eflomal-align (or EFLOMAL)")
    parser.add_argument("--source", nargs="+", required=True)
    parser.add_argument("--target", nargs="+", required=True)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cases", default="ibm1,diagonal,hmm", help="of ibm1, diagonal, hmm")
    parser.add_argument("--json", help="write all figures here")
    args = parser.parse_args()

    environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        joined = os.path.join(folder, "joined")
        words = 0
        with open(joined, "w", encoding="utf-8", newline="\n") as file:
            for source, target in zip(lines_of(args.source), lines_of(args.target), strict=True):
                words += (len(source.split()) + 1) * len(target.split())
                file.write(f"{source} ||| {target}\n")
        million = words / 1e6
        print(f"{million:.2f} million word pairs (with NULL), {args.threads} threads, {args.iterations} iterations\n")

        ours = [args.align, "--source", *args.source, "--target", *args.target, "--threads", str(args.threads)]
        steps = ["--iterations", str(args.iterations)]
        fast = [args.fast_align, "-i", joined, "-I", str(args.iterations)]
        cases = {
            "ibm1": ([[*ours, "--model", "ibm1", *steps]], [fast] if args.fast_align else None),
            "diagonal": ([[*ours, "--model", "diagonal", *steps]], [[*fast, "-dov"]] if args.fast_align else None),
            # What people run to get symmetrised links: both directions, one after the other.
            "hmm": ([[*ours, "--model", "hmm"]], [[*fast, "-dov"], [*fast, "-dovr"]] if args.fast_align else None),
        }
        results = []
        print(f"{'case':10} {'program':12} {'fastest s':>10} {'median s':>10} {'peak MiB':>10} {'MiB/M pairs':>12} {'ratio':>7}")
        for name in args.cases.split(","):
            mine, peer = cases[name]
            entries = {"align": mine}
            if peer:
                entries["fast_align"] = peer
            if args.eflomal and name == "hmm":
                entries["eflomal"] = [[args.eflomal, "-i", joined, "--model", "3", "-f", os.path.join(folder, "ef"),
                                       "-r", os.path.join(folder, "er")]]
            taken = {program: [] for program in entries}
            peaks = {program: 0 for program in entries}
            errors = {program: os.path.join(folder, program + ".err") for program in entries}
            for repetition in range(args.repetitions):
                for program, commands in entries.items():
                    seconds, peak = run(commands, environment, os.path.join(folder, "links"), errors[program])
                    taken[program].append(seconds)
                    peaks[program] = max(peaks[program], peak)
            best = min(taken["align"])
            for program in entries:
                fastest, median, mib = min(taken[program]), statistics.median(taken[program]), peaks[program] / 1024
                ratio = "" if program == "align" else f"{fastest / best:.1f}x"
                print(f"{name:10} {program:12} {fastest:10.3f} {median:10.3f} {mib:10.1f} {mib / million:12.2f} {ratio:>7}")
                results.append({"case": name, "program": program, "seconds": sorted(taken[program]), "peak_mib": mib,
                                "mib_per_million_word_pairs": mib / million})
            if name == "ibm1" and args.fast_align:
                report = os.path.join(folder, "report.json")
                run([[*mine[0], "--json", report]], environment, os.path.join(folder, "links"), errors["align"])
                with open(report, encoding="utf-8") as file:
                    here = [entry["forward"]["perplexity"] for entry in json.load(file)["iterations"]]
                said = pathlib.Path(errors["fast_align"]).read_text(errors="replace")
                there = [float(value) for value in re.findall(r"perplexity: *([0-9.e+]+)", said)]
                for k, (a, b) in enumerate(zip(here, there), 1):
                    print(f"  perplexity before update {k}: {a:.6g} here, {b:.6g} in fast_align, {a / b - 1:+.1e} relative")
        if args.json:
            with open(args.json, "w", encoding="utf-8") as file:
                json.dump({"million_word_pairs": million, "threads": args.threads, "results": results}, file, indent=1)
                file.write("\n")


if __name__ == "__main__":
    main()
