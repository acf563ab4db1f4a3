#!/bin/bash
# The first run on a GPU: what it is, whether its results are right, how fast it is, and what NVIDIA's tools find.
# From the root of the repository, with gradflow and its extras installed:
#     bash benchmarks/first_device_run.sh [PART...]     (info doctor tests bench memcheck ncu racecheck compiled ops)
# It goes on after failures, ends within LIMIT seconds (530), prints a table last, and leaves these files in OUT
# (build/first-device-run), as it goes: summary.txt, doctor.json, tests.xml.gz, gpu.json, gpu.md, ncu.csv.gz, logs.tar.gz.
# PYTHON names another Python than python3; PYTEST_ADDOPTS reaches the tests; QUICK=1 shortens doctor and bench.
set -u
cd "$(dirname "$0")/.."
limit=${LIMIT:-530}
out=${OUT:-build/first-device-run}
python=${PYTHON:-python3}
work=$(mktemp -d)
logs=$work/logs
mkdir -p "$out" "$logs"
trap 'rm -rf "$work"' EXIT
parts=" $* "
quick=${QUICK:+--quick}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 COLUMNS=150
export python work logs
summary=$out/summary.txt
printf '%-10s %-14s %7s  %s\n' part result seconds note > "$summary"

note() { printf '%-10s %-14s %7s  %s\n' "$@" | cut -c1-150 >> "$summary"; }

left() { echo $((limit - SECONDS)); }

# part NAME MOST RESERVE COMMAND...: for at most MOST seconds, with RESERVE seconds left for what follows if all parts
# run. "SECONDS" in the command is replaced by them, less 15, for programs that keep a budget of their own.
part() {
    local name=$1 seconds began=$SECONDS status result command
    seconds=$(left)
    if [[ $parts == "  " ]]; then seconds=$((seconds - $3)); fi
    if ((seconds > $2)); then seconds=$2; fi
    shift 3
    [[ $parts == "  " || $parts == *" $name "* ]] || return 0
    if ((seconds < ${least:-10})); then
        note "$name" "not run" 0 "no time was left"
        return 0
    fi
    command=("${@//SECONDS/$((seconds > 30 ? seconds - 15 : seconds / 2))}")
    echo "== $name (at most $seconds of the $(left) s that are left)"
    timeout --signal=INT --kill-after=10 "$seconds" "${command[@]}" > "$logs/$name.txt" 2>&1 < /dev/null
    status=$?
    case $status in
    0) result=ok ;;
    124 | 137) result="out of time" ;;
    *) result="exit code $status" ;;
    esac
    note "$name" "$result" $((SECONDS - began)) "$(said "$name")"
    tar -C "$logs" -czf "$out/logs.tar.gz" . 2> /dev/null
}

said() {  # the line of a part's log that says most, in ASCII
    local line
    line=$(grep -hE 'ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$1".*.tool 2> /dev/null | tail -n 1)
    [[ $line ]] || line=$(grep -a '[[:alnum:]]' "$logs/$1.txt" | tail -n 1)
    tr -cd ' -<>-~' <<< "$line"
}

# -- what the parts run --------------------------------------------------------------------------------------------------

cat > "$work/every_kernel.py" <<'END_OF_FILE'
"""A few steps of training with most kinds of kernels, every array with memory of its own."""
import cupy
import numpy as np

import gradflow as gf

cupy.cuda.set_allocator(None)
random = np.random.default_rng(0)
x = random.standard_normal((100, 20)).astype(np.float32)
labels, targets = random.integers(5, size=100), random.standard_normal((100, 5)).astype(np.float32)
for precision, loss, y in [
    ("float32", "softmax_cross_entropy", labels),
    ("float32", "mean_squared_error", targets),
    ("tf32", "softmax_cross_entropy", labels),
    ("bfloat16", "softmax_cross_entropy", labels),
]:
    layers = [gf.Dense(20, 33), gf.ReLU(), gf.BatchNorm(33), gf.Dropout(0.2), gf.Dense(33, 40), gf.GELU("tanh"),
              gf.LayerNorm(40), gf.Dense(40, 24), gf.Tanh(), gf.Dense(24, 5)]
    network = gf.Sequential(layers, seed=0, backend="cupy")
    trainer = gf.Trainer(network, loss, gf.Adam(), precision=precision, l2=1e-4, clip_norm=1.0)
    history = trainer.fit(x, y, epochs=2, batch_size=32, validation_data=(x[:40], y[:40]), progress=False)
    print(precision, loss, history["loss"], flush=True)
END_OF_FILE

cat > "$work/one_step.py" <<'END_OF_FILE'
"""One step of the network M of the benchmarks between profiler marks."""
import cupy
import numpy as np

import gradflow as gf

random = np.random.default_rng(0)
x, y = random.standard_normal((128, 784)).astype(np.float32), random.integers(10, size=128)
network = gf.MLP([784, 512, 256, 10], seed=0, backend="cupy")
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
trainer.fit(x, y, epochs=1, batch_size=128, progress=False)
cupy.cuda.runtime.deviceSynchronize()
cupy.cuda.profiler.start()
trainer.fit(x, y, epochs=1, batch_size=128, progress=False)
cupy.cuda.runtime.deviceSynchronize()
cupy.cuda.profiler.stop()
END_OF_FILE

info() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader
    "$python" -m pip list 2> /dev/null | grep -iE 'numpy|cupy|cuda|cublas|torch|triton|jax|ml.dtypes|pytest'
    for tool in "gcc --version" "ncu --version" "compute-sanitizer --version"; do
        ${tool} 2> /dev/null | grep -iE 'version|gcc' | tail -n 1
    done
    "$python" -m gradflow info
}

gpu_tests() {
    local timeouts=()
    if "$python" -c "import pytest_timeout" 2> /dev/null; then timeouts=(-p pytest_timeout --timeout=90); fi
    # Only the plugins that it needs: others can take long to load, or warn.
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 "$python" -m pytest -p xdist.plugin -p no:cacheprovider "${timeouts[@]}" -q \
        --tb=short -rfE --maxfail=300 --numprocesses=auto --maxprocesses=12 --dist=worksteal --require gpu \
        -m "gpu and not slow and not peers" --junitxml="$work/tests.xml"
}

every_op() {  # the tests of all kernels, every array with memory of its own
    echo 'import cupy; cupy.cuda.set_allocator(None)' > "$work/nopool.py"
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONPATH="$work:$PYTHONPATH" sanitizer ops memcheck \
        "$python" -m pytest -q -x -p nopool -p no:cacheprovider -m gpu tests/ops/test_parity.py
}

sanitizer() {  # sanitizer NAME TOOL COMMAND...
    compute-sanitizer --tool "$2" --report-api-errors no --print-limit 30 --error-exitcode 99 \
        --log-file "$logs/$1.%p.tool" "${@:3}"
}

profile() {
    local metrics=gpu__time_duration.sum,dram__bytes.sum,launch__grid_size,launch__block_size
    metrics+=,launch__registers_per_thread
    for name in gpu__compute_memory_throughput sm__throughput; do metrics+=,$name.avg.pct_of_peak_sustained_elapsed; done
    ncu --clock-control none --profile-from-start off --csv --page raw --metrics "$metrics" --log-file "$logs/ncu.csv" \
        "$python" "$work/one_step.py"
    grep -c . "$logs/ncu.csv"
}

export -f info gpu_tests every_op sanitizer profile

# -- the parts, the most important first ---------------------------------------------------------------------------------

quickly=("gradflow" "gradflow, TF32" "gradflow, bfloat16" "PyTorch" "PyTorch, CUDA graph" "PyTorch, bfloat16"
    "PyTorch, CUDA graph, bfloat16" "JAX" "JAX, scan")  # without the one that takes long to compile
part info 40 400 bash -c info
cat "$logs/info.txt" 2> /dev/null
part doctor 110 290 "$python" -m gradflow doctor $quick --budget SECONDS --json "$out/doctor.json"
part tests 160 170 bash -c gpu_tests
least=30 part bench 150 90 "$python" -m benchmarks.gpu $quick --budget SECONDS --networks M L T W S --optimizers adam \
    --contestants "${quickly[@]}" --output "$out"
part memcheck 50 45 bash -c 'sanitizer memcheck memcheck "$python" "$work/every_kernel.py"'
part ncu 40 10 bash -c profile
part racecheck 60 5 bash -c 'sanitizer racecheck racecheck "$python" "$work/every_kernel.py"'
least=60 part compiled 150 5 "$python" -m benchmarks.gpu --budget SECONDS --networks M L --optimizers adam \
    --contestants gradflow "PyTorch, compiled" --output "$logs/compiled"
part ops 300 5 bash -c every_op

if [ -f "$work/tests.xml" ]; then gzip -c "$work/tests.xml" > "$out/tests.xml.gz"; fi
if [ -f "$logs/ncu.csv" ]; then gzip -c "$logs/ncu.csv" > "$out/ncu.csv.gz"; fi
tar -C "$logs" -czf "$out/logs.tar.gz" .
grep -hE '^(FAILED|ERROR) ' "$logs"/tests.txt 2> /dev/null | cut -c1-200 | head -n 25
grep -hE '^FAILED|^warning|^not ' "$logs"/doctor.txt 2> /dev/null | cut -c1-300 | head -n 15
sed -n '/^| network/,$p' "$out/gpu.md" 2> /dev/null | head -n 70
echo
cat "$summary"
echo "all together: $SECONDS s; files in $out: $(ls "$out" | tr '\n' ' ')"
