#!/bin/bash
# Builds every fuzz target (Clang, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each for so many seconds, the
# differential fuzzer last:
#
#   tests/fuzz/run.sh [SECONDS] [TARGET ...]      60 seconds and all targets where nothing is said
#
# Findings are left in build-fuzz/findings, what the fuzzers learnt in build-fuzz/corpus. CXX (clang++), PYTHON (python3,
# with linnet, onnx, onnxruntime and protobuf) and JOBS may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
SECONDS_EACH="${1:-60}"
shift || true
PYTHON="${PYTHON:-python3}"
TARGETS=("$@")
if [ ${#TARGETS[@]} = 0 ]; then
  TARGETS=(reader build run oip tensorflow rest_v2 rest_v1 differential)
fi
TREE=build-fuzz
CORPUS=$TREE/corpus
FINDINGS=$TREE/findings

declare -A SEEDS=([reader]="models values" [build]=models [run]=models [oip]=oip [tensorflow]=tensorflow
                  [rest_v2]=rest_v2 [rest_v1]=rest_v1)
NATIVE=()
for target in "${TARGETS[@]}"; do
  [ "$target" = differential ] || NATIVE+=("fuzz_$target")
done

if [ ${#NATIVE[@]} -gt 0 ]; then
  if [ ! -f $TREE/build.ninja ]; then
    CXX="${CXX:-clang++}" cmake -G Ninja -B $TREE -DLINNET_FUZZ=ON -DLINNET_SANITIZE=address,undefined -DLINNET_TOOLS=OFF \
      -DLINNET_LIBRARY=OFF ${CMAKE_OPTIONS:-} . >/dev/null
  fi
  ninja -C $TREE -j "${JOBS:-$(nproc)}" "${NATIVE[@]}" | tail -1
  [ -d $CORPUS/models ] || "$PYTHON" tests/fuzz/make_seeds.py $CORPUS --quick
  [ -d $CORPUS/oip ] || "$PYTHON" tests/serve/make_fuzz_seeds.py $CORPUS
fi
mkdir -p $FINDINGS

export ASAN_OPTIONS="allocator_may_return_null=1:detect_leaks=1:max_allocation_size_mb=2048"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
status=0
for target in "${TARGETS[@]}"; do
  echo "=== $target, $SECONDS_EACH s ($(date +%T))"
  if [ "$target" = differential ]; then
    "$PYTHON" tests/fuzz/differential.py --seconds "$SECONDS_EACH" --keep $FINDINGS/differential || status=1
    continue
  fi
  folders=()
  mkdir -p "$CORPUS/found_$target"
  for seeds in ${SEEDS[$target]}; do folders+=("$CORPUS/$seeds"); done
  $TREE/fuzz_"$target" -max_total_time="$SECONDS_EACH" -max_len=4096 -len_control=0 -timeout=20 -rss_limit_mb=2048 \
    -malloc_limit_mb=1024 -print_final_stats=1 -verbosity=0 -artifact_prefix="$FINDINGS/$target-" \
    "$CORPUS/found_$target" "${folders[@]}" 2>&1 | grep -v "^#\|^INFO\|NEW_FUNC" | tail -n 60 || status=1
done
exit $status
