#!/usr/bin/env bash
# All that is to be known of one GPU, in ten minutes: correctness, tests, kernels, ragged batches, requests, peers.
#
#   benchmarks/gpu_all.sh FOLDER
#
# Everything goes to FOLDER: gpu.json (the figures, with device, driver and versions), machine.json, a log of each part,
# summary.txt. A part that fails, or takes too long, is named there, and the next begins; the exit status is 0 where all
# went well, 1 where not, 2 where nothing could begin. What is measured before a part's time is over is kept.
#
# It makes its environment by the Makefile (.venv, .venv/gpu: not counted in the time) unless GPU_PYTHON names a Python
# that has all of it. GPU_SECONDS is the time for all parts together.
set -u

if [ $# -ne 1 ] || [ -z "$1" ] || [ "${1#-}" != "$1" ]; then
    echo "usage: benchmarks/gpu_all.sh FOLDER" >&2
    exit 2
fi
total=${GPU_SECONDS:-570}
case $total in
    '' | 0 | *[!0-9]*) echo "GPU_SECONDS = $total is not a number of seconds" >&2; exit 2 ;;
esac
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2

python=${GPU_PYTHON:-.venv/bin/python}
if [ -z "${GPU_PYTHON:-}" ] && ! make .venv/gpu >"$out/setup.log" 2>&1; then
    echo "the environment could not be made: $out/setup.log" >&2
    exit 2
fi
# Without TRITON_INTERPRET, which would have a CPU compute.
unset TRITON_INTERPRET
export PYTHONPATH=client:server:. PYTHONUNBUFFERED=1
if ! "$python" benchmarks/gpu_record.py >"$out/machine.json" 2>"$out/machine.log"; then
    tail -n 1 "$out/machine.log" >&2
    exit 2
fi

summary=$out/summary.txt
printf '%-12s %-28s %9s  %s\n' part outcome seconds log >"$summary"
failed=0 stopped=0 running=
trap 'stopped=1; [ -z "$running" ] || kill "$running" 2>/dev/null' INT TERM
SECONDS=0

# part NAME PERCENT COMMAND...: of the time for all, when it has to be over. What one leaves is the next one's.
part() {
    local name=$1 limit=$((total * $2 / 100 - SECONDS)) begun=$SECONDS status outcome
    shift 2
    if [ "$stopped" = 1 ]; then
        outcome="not begun: stopped"
    elif [ "$limit" -le 0 ]; then
        outcome="not begun: no time left"
    else
        echo "== $name, at most $limit s: $*"
        timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1 &
        running=$!
        wait "$running"
        status=$?
        [ "$stopped" = 0 ] || wait "$running" # the first ended with the signal
        running=
        tail -n 3 "$out/$name.log"
        case $status in
            0) outcome="done" ;;
            124 | 137) outcome="out of time after $limit s" ;;
            *) outcome="failed, status $status" ;;
        esac
        [ "$stopped" = 0 ] || outcome="stopped"
    fi
    [ "$outcome" = "done" ] || failed=1
    printf '%-12s %-28s %9d  %s\n' "$name" "$outcome" $((SECONDS - begun)) "$name.log" >>"$summary"
}

gpu() { # NAME PERCENT: a part of gpu.py
    part "$1" "$2" "$python" benchmarks/gpu.py --part "$1" --out "$out/gpu.json"
}

# Compiling kernels is most of it: by several processes. The benchmark's correctness has just run, and its dry runs need
# no GPU.
cores=$(nproc)
gpu correctness 20
part tests 48 "$python" -m pytest --gpu tests/backends tests/conformance -k triton -n "$((cores < 8 ? cores : 8))" --quiet \
    --deselect tests/backends/test_triton_gpu.py::test_every_size_is_right --ignore tests/backends/test_triton_benchmark.py
gpu kernels 68
gpu ragged 77
gpu requests 86
gpu peers 100

echo
cat "$summary"
exit "$failed"
