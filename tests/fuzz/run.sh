#!/bin/bash
# Builds every fuzz target (Clang, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each for so many seconds:
#
#   tests/fuzz/run.sh [SECONDS] [TARGET ...]      60 seconds and all targets where nothing is said
#
# The objects are those of `make asan`, in build/asan. Findings are left in build-fuzz/findings, what the fuzzers learnt
# in build-fuzz/corpus. CXX (clang++), PYTHON (python3, with linnet, onnx, onnxruntime and protobuf) and JOBS (how many
# targets run at a time; one per CPU) may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SECONDS_EACH="${1:-60}"
shift || true
export PYTHON="${PYTHON:-python3}"
JOBS="${JOBS:-$(nproc)}"
TARGETS=("$@")
if [ ${#TARGETS[@]} = 0 ]; then
  TARGETS=(reader build run oip tensorflow rest_v2 rest_v1 differential)
fi
TREE=build/asan
export TREE CORPUS=build-fuzz/corpus FINDINGS=build-fuzz/findings
PATH="$(dirname "$(command -v "$PYTHON")"):$PATH"  # the tree is rebuilt where another ninja takes over

NATIVE=()
for target in "${TARGETS[@]}"; do
  [ "$target" = differential ] || NATIVE+=("fuzz_$target")
done
if [ ${#NATIVE[@]} -gt 0 ]; then
  if [ ! -f $TREE/build.ninja ]; then
    CXX="${CXX:-clang++}" cmake -G Ninja -B $TREE -DLINNET_FUZZ=ON -DLINNET_SANITIZE=address,undefined -DLINNET_TOOLS=OFF \
      -DLINNET_LIBRARY=OFF . >/dev/null
  fi
  ninja -C $TREE -j "$JOBS" "${NATIVE[@]}" | tail -1
  [ -d $CORPUS/models ] || "$PYTHON" tests/fuzz/make_seeds.py $CORPUS --quick
  [ -d $CORPUS/oip ] || "$PYTHON" tests/serve/make_fuzz_seeds.py $CORPUS
fi
mkdir -p $FINDINGS

fuzz() {
  local target="$1" seeds
  if [ "$target" = differential ]; then
    "$PYTHON" tests/fuzz/differential.py --seconds "$SECONDS_EACH" --keep "$FINDINGS/differential" 2>&1
    return
  fi
  case "$target" in
    reader) seeds="$CORPUS/models $CORPUS/values" ;;
    build | run) seeds="$CORPUS/models" ;;
    *) seeds="$CORPUS/$target" ;;
  esac
  mkdir -p "$CORPUS/found_$target"
  # shellcheck disable=SC2086
  "$TREE/fuzz_$target" -max_total_time="$SECONDS_EACH" -max_len=4096 -len_control=0 -timeout=20 -rss_limit_mb=2048 \
    -malloc_limit_mb=1024 -print_final_stats=1 -verbosity=0 -artifact_prefix="$FINDINGS/$target-" \
    "$CORPUS/found_$target" $seeds 2>&1 | grep -v "^#\|^INFO\|NEW_FUNC" | tail -n 60
}

one() {
  local status=0 said
  said=$(fuzz "$1") || status=$?
  printf '=== %s, %s s (%s)%s\n%s\n' "$1" "$SECONDS_EACH" "$(date +%T)" "$([ $status = 0 ] || echo ": FAILED")" "$said"
  return $status
}
export -f fuzz one
export ASAN_OPTIONS="allocator_may_return_null=1:detect_leaks=1:max_allocation_size_mb=2048"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
printf '%s\n' "${TARGETS[@]}" | xargs -P "$JOBS" -I{} bash -o pipefail -c 'one {}'
