#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh SAMPLES DATA WORK: whatever the samples are given, they end with a message and a status of their own, never by
# a signal or an exception that nobody caught; what is right works.
samples=$1 data=$2 work=$3
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1
bad=0 count=0

# ends_well WANTED COMMAND...: WANTED is ok, refused, or any of the two.
ends_well() {
  wanted=$1
  shift
  count=$((count + 1))
  timeout 120 "$@" >out.txt 2>err.txt </dev/null
  status=$?
  problem=
  [ $status -lt 124 ] || problem="ended by a signal, a timeout or abort()"
  if [ $status != 0 ] && [ ! -s err.txt ] && [ ! -s out.txt ]; then problem="said nothing"; fi
  if grep -qE 'terminate called|AddressSanitizer|runtime error:|Segmentation' err.txt; then problem="crashed"; fi
  [ "$wanted" != ok ] || [ $status = 0 ] || problem="should have worked"
  [ "$wanted" != refused ] || [ $status != 0 ] || problem="should have been refused"
  if [ -n "$problem" ]; then
    bad=$((bad + 1))
    echo "FAILED: $* ($status): $problem"
    tail -n 3 out.txt err.txt
  fi
}

head -n 40 "$data/penguins_bill.csv" >small.csv
: >empty.csv
printf 'a,b\n' >header.csv
printf '1,2\n3\n4,5\n' >ragged.csv
printf '1,2\n3,x\n4,5\n' >word.csv
printf '1,2\nnan,3\n4,5\n' >nan.csv
printf '1,2\ninf,3\n4,5\n' >inf.csv
printf '1,2\n' >one.csv
printf '1,7\n2,7\n4,7\n5,7\n' >constant.csv
printf '3,3\n3,3\n3,3\n3,3\n' >same.csv
printf '1e300,1\n-1e300,2\n3,4\n' >huge.csv
head -c 4096 /dev/zero >zeros.csv
head -c 3000 "$samples/mixture" >binary.csv
gzip -c small.csv >small.csv.gz
head -c 100 small.csv.gz >cut.csv.gz
printf '\223NUMPY\001\000\020\000{bad header}' >bad.npy
printf 'not a model' >bad.safetensors

mixture=$samples/mixture
ends_well ok "$mixture" --help
ends_well ok "$mixture" --data small.csv -k 2 --restarts 2 --save model.safetensors --assignments z.csv --json out.json
ends_well ok "$mixture" --data small.csv.gz -k 2 --restarts 2 --covariance diag
ends_well ok "$mixture" --data small.csv --load model.safetensors
ends_well refused "$mixture"
ends_well refused "$mixture" --data absent.csv
ends_well refused "$mixture" --data .
ends_well refused "$mixture" --data small.csv -k 0
ends_well refused "$mixture" --data small.csv -k two
ends_well refused "$mixture" --data small.csv --covariance round
ends_well refused "$mixture" --data small.csv --device gpu
ends_well refused "$mixture" --data small.csv --unknown
ends_well refused "$mixture" --data small.csv --load bad.safetensors
ends_well refused "$mixture" --data small.csv -k 2 --save "$work/no/such/folder/model.safetensors"
for file in empty header ragged word nan inf zeros binary; do ends_well refused "$mixture" --data $file.csv -k 2; done
for file in one constant same huge; do
  for covariance in diag full; do
    for k in 1 2 5; do ends_well any "$mixture" --data $file.csv -k $k --covariance $covariance --restarts 2; done
  done
done
ends_well refused "$mixture" --data cut.csv.gz
ends_well refused "$mixture" --data bad.npy
head -c 60 model.safetensors >cut.safetensors
ends_well refused "$mixture" --data small.csv --load cut.safetensors
ends_well refused "$mixture" --data "$data/penguins.csv" --load model.safetensors

density=$samples/mixture_density
if [ -x "$density" ]; then
  ends_well ok "$density" --help
  ends_well refused "$density" --data absent.csv
  ends_well refused "$density" --data small.csv --target nothing
  ends_well refused "$density" --data small.csv -k 0
  for file in empty header ragged word nan inf zeros; do ends_well refused "$density" --data $file.csv --epochs 1; done
  for file in one constant same; do ends_well any "$density" --data $file.csv --epochs 1; done
  ends_well ok "$density" --data small.csv --epochs 2
fi

vae=$samples/vae
if [ -x "$vae" ]; then
  small="--epochs 1 --hidden 4 --latent 2 --evaluate 5"
  ends_well ok "$vae" --help
  ends_well ok "$vae" $small --generate g.png --save vae.safetensors
  ends_well ok "$vae" $small --load vae.safetensors
  ends_well refused "$vae" $small --data absent.csv
  ends_well refused "$vae" $small --load model.safetensors
  ends_well refused "$vae" $small --load bad.safetensors
  ends_well refused "$vae" $small --binarise often
  ends_well refused "$vae" $small --rate 0
  ends_well refused "$vae" $small --checkpoint "$work/no/such/folder/c"
  for file in empty header ragged word nan inf zeros one; do ends_well refused "$vae" $small --data $file.csv; done
  for file in constant same huge small; do ends_well any "$vae" $small --data $file.csv; done
  ends_well any "$vae" $small --data constant.csv --valid same.csv
fi

compare=$samples/compare_estimators
if [ -x "$compare" ]; then
  small="--repetitions 2 --samples 1,3"
  ends_well ok "$compare" --help
  for model in gaussian bits; do ends_well ok "$compare" $small --model $model --data 1 --latent 1; done
  ends_well ok "$compare" $small --estimators vimco --samples 1
  ends_well ok "$compare" $small --scale 0.001 --shift 100
  ends_well refused "$compare" $small --model normal
  ends_well refused "$compare" $small --model bits --latent 13
  ends_well refused "$compare" $small --model bits --estimators hmc
  ends_well refused "$compare" $small --samples 0
  ends_well refused "$compare" --repetitions 1
  ends_well refused "$compare" $small --device gpu
  ends_well refused "$compare" $small --json "$work/no/such/folder/c.json"
  ends_well refused "$compare" $small --plot c.gif
fi

factors=$samples/latent_factors
if [ -x "$factors" ]; then
  small="--epochs 1 --hidden 4 --embedding 4 --bits 3 --evaluate 5"
  awk 'BEGIN { for (i = 0; i < 30; ++i) print "casa" i % 4 }' >words.txt
  printf 'casa\n\nmesa\n' >gap.txt
  printf 'casa\nma\361ana\n' >latin1.txt
  ends_well ok "$factors" --help
  ends_well ok "$factors" $small --data words.txt --save factors.safetensors --generate 3 --explain casa1
  ends_well ok "$factors" $small --data words.txt --load factors.safetensors
  ends_well ok "$factors" $small --data words.txt --model lstm
  ends_well refused "$factors" $small --data absent.txt
  ends_well refused "$factors" $small --data words.txt --load model.safetensors
  ends_well refused "$factors" $small --data words.txt --load bad.safetensors
  ends_well refused "$factors" $small --data words.txt --bits 40
  ends_well refused "$factors" $small --data words.txt --explain casa9
  ends_well refused "$factors" $small --data words.txt --checkpoint "$work/no/such/folder/c"
  for file in empty.csv gap.txt latin1.txt zeros.csv binary.csv; do ends_well refused "$factors" $small --data $file; done
fi

align=$samples/align
if [ -x "$align" ]; then
  printf 'the house\nthe book\na book\n' >text.s
  printf 'das haus\ndas buch\nein buch\n' >text.t
  printf 'das haus\ndas buch\n' >short.t
  printf 'das haus\n\nein buch\n' >gap.t
  printf 'das haus\nd\344s buch\nein buch\n' >latin1.t
  printf 'the house ||| das haus\na book\n' >broken.j
  printf 'the ||| house ||| das haus\n' >twice.j
  { printf 'the house\n'; awk 'BEGIN { for (i = 0; i < 10000; ++i) printf "w "; print "" }'; printf 'a book\n'; } >long.s
  printf '1 1 1 S\n9 1 1 S\n' >late.wa
  printf '1 7 1 S\n' >wide.wa
  printf 'uno\ndue\ntre\n' >other.s
  gzip -c text.s | head -c 20 >cut.s.gz
  ends_well ok "$align" --help
  ends_well ok "$align" --source text.s --target text.t --model ibm1 --save align.safetensors --table t.tsv --json a.json
  ends_well ok "$align" --source text.s --target text.t --load align.safetensors --align-only
  ends_well ok "$align" --source text.s --target gap.t --model ibm1 --skip-bad-pairs
  ends_well ok "$align" --source long.s --target text.t --model ibm1 --longest 10000
  ends_well ok "$align" --source long.s --target text.t --model ibm1 --skip-bad-pairs
  ends_well refused "$align"
  ends_well refused "$align" --source text.s
  ends_well refused "$align" --source text.s --target absent.t
  ends_well refused "$align" --source . --target text.t
  for file in short gap latin1; do ends_well refused "$align" --source text.s --target $file.t --model ibm1; done
  ends_well refused "$align" --source long.s --target text.t
  ends_well refused "$align" --source empty.csv --target empty.csv
  ends_well refused "$align" --source cut.s.gz --target text.t
  ends_well refused "$align" --input broken.j
  ends_well refused "$align" --input twice.j
  for gold in late wide; do ends_well refused "$align" --source text.s --target text.t --gold $gold.wa; done
  ends_well refused "$align" --source text.s --target text.t --gold text.t
  ends_well refused "$align" --source text.s --target text.t --load bad.safetensors
  ends_well refused "$align" --source text.s --target text.t --load model.safetensors
  ends_well refused "$align" --source other.s --target text.t --load align.safetensors
  ends_well refused "$align" --source text.s --target text.t --model telepathy
  ends_well refused "$align" --source text.s --target text.t --symmetrise most
  ends_well refused "$align" --source text.s --target text.t --links "$work/no/such/folder/links"
  ends_well refused "$align" --source text.s --target text.t --links /dev/full
  ends_well any "$align" --source binary.csv --target binary.csv
  ends_well any "$align" --source zeros.csv --target zeros.csv --model ibm1
  head -c 60 align.safetensors >cut.safetensors
  ends_well refused "$align" --source text.s --target text.t --load cut.safetensors
fi

echo "$count commands, $bad of them ended badly"
[ $bad = 0 ]
