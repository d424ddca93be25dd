#!/usr/bin/env bash
# What can only be measured on a GPU; on a CPU the same with smaller sizes, which is its rehearsal.
#
#   tests/gpu/run.sh [correct] [train] [encode] [extract] [--size full|small|tiny]        (no part named: all four)
#
# OUT     folder for <part>.json and other files (gpu-results/)
# PYTHON  an interpreter with torch, numpy, scipy, scikit-learn and transformers; `extract` needs more: see wheels.sh
# LIMIT   seconds after which a part is stopped (180)
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
parts=() size=()
while (($#)); do
    case $1 in
        correct | train | encode | extract) parts+=("$1") ;;
        --size)
            case ${2:-} in
                full | small | tiny) size=(--size "$2") && shift ;;
                *) echo "unknown size '${2:-}': expected full, small or tiny" >&2 && exit 2 ;;
            esac
            ;;
        *) echo "unknown part '$1': expected correct, train, encode or extract" >&2 && exit 2 ;;
    esac
    shift
done
((${#parts[@]})) || parts=(correct train encode extract)
export OUT=$(realpath -m "${OUT:-$root/gpu-results}")
python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || python=python3

# The import names begin with merloco, and nothing needs to be installed: the namespace is a folder with one link.
namespace=$(mktemp -d)
trap 'rm -rf "$namespace"' EXIT
ln -s "$root" "$namespace/merloco"
export PYTHONPATH=$namespace:$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
cd "$root" || exit

failed=()
for part in "${parts[@]}"; do
    begun=$SECONDS
    timeout --kill-after=10 "${LIMIT:-180}" "$python" -m "tests.gpu.$part" ${size[@]+"${size[@]}"}
    code=$?
    ((code == 124 || code == 137)) && echo "$part: stopped after ${LIMIT:-180} s" >&2
    ((code)) && failed+=("$part")
    echo "$part: $((SECONDS - begun)) s"
done
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
