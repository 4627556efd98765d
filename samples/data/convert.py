#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the .csv and .csv.gz files of this folder from the packages that README.md names.

  pip download --no-deps palmerpenguins==0.1.6 plotnine==0.15.9 scikit-learn==1.2.1
  python3 convert.py palmerpenguins-*.whl plotnine-*.whl scikit_learn-*.whl
"""
import csv
import gzip
import io
import pathlib
import random
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]
DIAMONDS = 6000


def rows(wheel, name):
    text = zipfile.ZipFile(wheel).read(name).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def write(name, header, lines):
    with open(HERE / name, "w", newline="\n") as out:
        out.write(",".join(header) + "\n")
        out.writelines(",".join(line) + "\n" for line in lines)
    print(f"{name}: {len(lines)} x {len(header)}")


def main(penguins_wheel, plotnine_wheel, sklearn_wheel):
    penguins = rows(penguins_wheel, "palmerpenguins/data/penguins.csv")
    penguins = [p for p in penguins if all(p[m] != "NA" for m in MEASURES)]
    write("penguins.csv", MEASURES, [[p[m] for m in MEASURES] for p in penguins])
    write("penguins_bill.csv", MEASURES[:2], [[p[m] for m in MEASURES[:2]] for p in penguins])
    write("penguins_species.csv", ["species"], [[str(SPECIES.index(p["species"]))] for p in penguins])

    diamonds = rows(plotnine_wheel, "plotnine/data/diamonds.csv")
    chosen = random.Random(0).sample(diamonds, DIAMONDS)  # in random order: any prefix is a fair sample
    write("diamonds.csv", ["price", "carat"], [[d["price"], d["carat"]] for d in chosen])

    packed = zipfile.ZipFile(sklearn_wheel).read("sklearn/datasets/data/digits.csv.gz")
    digits = [[str(round(float(v))) for v in line.split(",")] for line in gzip.decompress(packed).decode().splitlines()]
    write("digits_class.csv", ["digit"], [d[64:] for d in digits])
    write("digits.csv", [f"pixel_{r}_{c}" for r in range(8) for c in range(8)], [d[:64] for d in digits])
    plain = HERE / "digits.csv"
    (HERE / "digits.csv.gz").write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
    plain.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
