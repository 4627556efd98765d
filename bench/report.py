#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Merges what dgm_bench and its peers measured into one table and one JSON.

report.py --json OUT.json [--note KEY=VALUE ...] FILE...

Files that end in .json are Google Benchmark's, of any number of rounds; files that end in .jsonl hold
peers' lines (bench/peers/README.md). Needs nothing but Python's standard library.
"""
import argparse
import json
import statistics
import sys

MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}


def short(number):
    """1000000 -> 1M; a power of two stays readable too: 1048576 -> 2^20."""
    if number.isdigit():
        value = int(number)
        for unit, letter in ((10**6, "M"), (10**3, "k")):
            if value >= unit and value % unit == 0:
                return f"{value // unit}{letter}"
        if value >= 4096 and value & (value - 1) == 0:
            return f"2^{value.bit_length() - 1}"
    return number


def title(case):
    """mixture/N:1000000/K:256 -> 'mixture  N=1M K=256'."""
    name, *sizes = case.split("/")
    words = []
    for size in sizes:
        letter, colon, number = size.partition(":")
        words.append(f"{letter}={short(number)}" if colon else size)
    return f"{name}  {' '.join(words)}".strip()


def read_ours(path, cases, context):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    for key, value in report["context"].items():
        context.setdefault(key, value)
    for run in report["benchmarks"]:
        if run.get("run_type") == "aggregate":
            continue
        parts = [part for part in run["name"].split("/") if part not in ("real_time", "manual_time")]
        parts = [part for part in parts if not part.startswith(("repeats:", "min_time:", "iterations:"))]
        case = cases.setdefault("/".join(parts), {"times": [], "counters": {}, "error": None})
        if run.get("error_occurred"):
            case["error"] = run.get("error_message", "failed")
            continue
        milliseconds = run["real_time"] * MILLISECONDS[run["time_unit"]]
        if not case["times"] or milliseconds < min(case["times"]):
            known = ("real_time", "cpu_time", "iterations", "threads", "repetitions", "repetition_index",
                     "family_index", "per_family_instance_index")
            case["counters"] = {
                key: value for key, value in run.items() if isinstance(value, (int, float)) and key not in known
            }
        case["times"].append(milliseconds)


def read_peers(path, peers):
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                best = peers.setdefault(row["case"], {}).setdefault(row["peer"], {"min": [], "median": []})
                best["min"].append(float(row["milliseconds"]["min"]))
                best["median"].append(float(row["milliseconds"]["median"]))
            except (ValueError, KeyError, TypeError) as error:
                print(f"{path}: line {number} is no result of a peer: {error}", file=sys.stderr)


def time(milliseconds):
    if milliseconds < 1:
        return f"{1e3 * milliseconds:.3g} us"
    return f"{milliseconds:.4g} ms" if milliseconds < 1e4 else f"{milliseconds / 1e3:.4g} s"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", required=True)
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()

    ours, peers, context = {}, {}, {}
    for path in arguments.files:
        if path.endswith(".jsonl"):
            read_peers(path, peers)
        else:
            read_ours(path, ours, context)
    notes = dict(note.split("=", 1) for note in arguments.note)

    rows, results = [], []
    for case, run in ours.items():
        if run["error"] or not run["times"]:
            rows.append((title(case), run["error"] or "no time", "", "", "", ""))
            results.append({"case": case, "error": run["error"] or "no time"})
            continue
        fastest, median = min(run["times"]), statistics.median(run["times"])
        result = {"case": case, "runs": len(run["times"]),
                  "milliseconds": {"min": fastest, "median": median, "max": max(run["times"])},
                  "counters": run["counters"]}
        shares = {key[len("share_of_"):]: value for key, value in run["counters"].items() if key.startswith("share_of_")}
        share = ", ".join(f"{100 * value:.0f} % {key}" for key, value in shares.items())
        beaten = peers.get(case, {})
        ratio, against = "", ""
        if beaten:
            against = min(beaten, key=lambda name: min(beaten[name]["min"]))
            result["peers"] = {name: {"min": min(times["min"]), "median": statistics.median(times["median"])}
                               for name, times in beaten.items()}
            # Fastest against fastest: what else ran on the machine slows one and not the other.
            result["ratio"] = result["peers"][against]["min"] / fastest
            ratio = f"{result['ratio']:.1f}x"
            against = f"{against}: {time(result['peers'][against]['min'])}"
        spread = f"+{100 * (max(run['times']) / fastest - 1):.0f} %" if len(run["times"]) > 1 else ""
        rows.append((title(case), time(fastest), spread, share, ratio, against))
        results.append(result)

    unmatched = sorted(set(peers) - set(ours))
    heads = ("case", "fastest", "spread", "share of ceiling", "ratio", "fastest peer")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for key in ("device", "cpu_threads", "copy_GB_per_s", "read_GB_per_s", "fma_GFLOP_per_s", "exp_G_per_s"):
        if key in context:
            print(f"{key} {context[key]}", end="   ")
    print()
    for row in [heads, tuple("-" * width for width in widths), *rows]:
        print("  ".join(cell.rjust(width) if 0 < i < 3 or i == 4 else cell.ljust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip())
    if unmatched:
        print("Peers timed cases that dgm_bench did not: " + ", ".join(unmatched))
    with open(arguments.json, "w", encoding="utf-8") as file:
        json.dump({"notes": notes, "context": context, "results": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
