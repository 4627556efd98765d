#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the .csv files of this folder from the packages that README.md names.

  pip download --no-deps palmerpenguins==0.1.6 plotnine==0.15.9
  python3 convert.py palmerpenguins-*.whl plotnine-*.whl
"""
import csv
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


def main(penguins_wheel, plotnine_wheel):
    penguins = rows(penguins_wheel, "palmerpenguins/data/penguins.csv")
    penguins = [p for p in penguins if all(p[m] != "NA" for m in MEASURES)]
    write("penguins.csv", MEASURES, [[p[m] for m in MEASURES] for p in penguins])
    write("penguins_bill.csv", MEASURES[:2], [[p[m] for m in MEASURES[:2]] for p in penguins])
    write("penguins_species.csv", ["species"], [[str(SPECIES.index(p["species"]))] for p in penguins])

    diamonds = rows(plotnine_wheel, "plotnine/data/diamonds.csv")
    chosen = random.Random(0).sample(diamonds, DIAMONDS)  # in random order: any prefix is a fair sample
    write("diamonds.csv", ["price", "carat"], [[d["price"], d["carat"]] for d in chosen])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
