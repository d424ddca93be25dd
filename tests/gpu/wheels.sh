#!/usr/bin/env bash
# Wheels for `tests/gpu/run.sh extract` on a machine without a network that has torch, torchvision, numpy, scipy,
# scikit-learn and transformers (and so what these bring along).
#
#   tests/gpu/wheels.sh FOLDER [PYTHON_VERSION]        (3.12; Linux on x86-64)
#
# They lie in FOLDER/part1, FOLDER/part2 and so on, each under 60 MiB, small ones first. There, without dependencies:
#   pip install --no-index --no-deps --target SITE FOLDER/part*/*.whl && export PYTHONPATH=SITE
# PACKAGES  other names than the list below, for a machine that has some of them
# PYTHON    an interpreter with pip (.venv/bin/python)
set -eu
(($# == 1 || $# == 2)) || { echo "usage: wheels.sh FOLDER [PYTHON_VERSION]" >&2 && exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
version=${2:-3.12}
most=$((60 * 2 ** 20))
packages=${PACKAGES:-annotated-types av braceexpand cffi decord2 pillow psutil pyarrow pycparser pydantic pydantic_core
    pyyaml retinaface-pytorch soundfile soxr tqdm typing-inspection typing_extensions webdataset}

folder=$(realpath -m "$1")
rm -rf "$folder"/part*
mkdir -p "$folder/all"
platforms=()
for glibc in 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
for name in 2014 2010 1; do platforms+=(--platform "manylinux${name}_x86_64"); done
wanted=()
for name in $packages; do  # as constraints.txt spells it, with its version
    line=$(grep -iE "^$(sed 's/[-_.]/[-_.]/g' <<<"$name")==" "$root/constraints.txt") ||
        { echo "constraints.txt has no version of $name" >&2 && exit 1; }
    wanted+=("$line")
done
"$python" -m pip download -qq --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$version" --implementation cp "${platforms[@]}" --dest "$folder/all" "${wanted[@]}"

part=1 held=0
while read -r size wheel; do
    ((size <= most)) || { echo "$wheel alone is larger than 60 MiB" >&2 && exit 1; }
    if ((held + size > most)); then part=$((part + 1)) held=0; fi
    held=$((held + size))
    mkdir -p "$folder/part$part"
    mv "$folder/all/$wheel" "$folder/part$part"
    printf 'part%d  %7.1f MiB  %s\n' "$part" "$(awk "BEGIN {print $size / 2^20}")" "$wheel"
done < <(find "$folder/all" -name '*.whl' -printf '%s %f\n' | sort -n)
rmdir "$folder/all"
