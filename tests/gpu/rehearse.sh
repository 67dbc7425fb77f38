#!/bin/sh
# Run what uses a GPU, beside the same on a CPU: the tests, comparisons and timings; a table comes last.
#
#   OUT=folder tests/gpu/rehearse.sh [--wheels FOLDER] [--cpu] [--limit SECONDS] [--jobs FILE] [--only SECTION ...]
#
# It needs torch, torchvision, CuPy, numba, SciPy, scikit-learn, Pillow, PyArrow, safetensors, pydantic, polars, PyYAML,
# pytest and hypothesis; wheels of what is missing may lie in FOLDER. With --cpu it tries itself out where there is no GPU.
# FILE holds the jobs of a small run; `python tests/gpu/chain.py FILE` writes it wherever Snakemake is installed. $OUT
# takes table.txt and log.txt.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
# Each word in turn goes from the front to the back, but for the folder of wheels.
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    if [ "$word" = --wheels ]; then
        site=$(mktemp -d)
        trap 'rm -rf "$site"' EXIT
        for wheel in "$1"/*.whl; do "$python" -m zipfile -e "$wheel" "$site"; done
        PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
        shift
        left=$((left - 1))
    else
        set -- "$@" "$word"
    fi
done
export PYTHONPATH="$here/src:$here/tests${PYTHONPATH:+:$PYTHONPATH}"
cd "$here"
"$python" tests/gpu/rehearse.py "$@"
