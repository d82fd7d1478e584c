#!/usr/bin/env bash
# The figures that only a GPU can give, in under 9 minutes on a bare machine: a checkout, Python 3.11 and a CUDA driver.
#
#   benchmarks/gpu.sh [--out FOLDER] [--only SECTION ...] [--seconds N] [--cotracker CLONE]   on a GPU
#   benchmarks/gpu.sh --dry                                                  the same code on a CPU, at a small size
#
# Weights are random, of the true sizes: nothing but packages is downloaded. Results: gpu.json and gpu.txt in FOLDER
# (default: gpu-results). See benchmarks/gpu.py for the sections and their budgets.
set -u
began=$(date +%s)
cd "$(dirname "$0")/.." || exit 1
python=.venv/bin/python
if [ ! -x "$python" ]; then
    echo "gpu.sh: no .venv here, setting it up" >&2
    make setup || exit 1
fi
case " $* " in
*" --dry "*) ;;
*)
    if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        # A build of torch for CPUs, as constraints.txt may pin it, is replaced by the index's own, which is for GPUs.
        version=$("$python" -c 'import torch; print(torch.__version__.split("+")[0])') || exit 1
        echo "gpu.sh: torch sees no GPU, installing torch $version as the package index has it" >&2
        "$python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "torch==$version" &&
            "$python" -m pip install --quiet --disable-pip-version-check "torch==$version" || exit 1
    fi
    ;;
esac
exec "$python" benchmarks/gpu.py --began "$began" "$@"
