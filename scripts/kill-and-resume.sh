#!/bin/sh
# Shows that nothing is lost: a training is killed (kill -9) at random moments, resumed each time, and ends in the same
# bits as one that ran undisturbed.
#
#     scripts/kill-and-resume.sh [KILLS]      default: 20
#
# Takes the binary from $MINDREEL, or builds it. Works in a temporary folder.
set -eu

kills=${1:-20}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
if [ -z "${MINDREEL-}" ]; then
    (cd -- "$root" && cargo build --locked --release --quiet)
    MINDREEL=$root/target/release/mindreel
fi
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

"$MINDREEL" --quiet prepare simulate --output "$work/sim" --subjects 1 --seed 0 --clips none >/dev/null

options="--model MLP --folds 0,1 --epochs 40 --patience 0 --checkpoint-steps 3 --permutations 99 --resume"
train() {
    # shellcheck disable=SC2086  # the options are words
    exec "$MINDREEL" --quiet train classify --data "$work/sim" --output "$1" $options >/dev/null
}
# What a killed run was writing stays under a temporary name, beside the file it never became.
compare() {
    diff -r -x '.tmp-*' "$work/whole" "$work/broken"
}

echo "the unbroken run"
start=$(date +%s%N)
(train "$work/whole")
took_ms=$((($(date +%s%N) - start) / 1000000))

echo "the same, killed $kills times; undisturbed it took $took_ms ms"
done_kills=0
while [ "$done_kills" -lt "$kills" ]; do
    (train "$work/broken") &
    pid=$!
    # A moment within the first part of what is left: most kills find a run at work.
    wait_ms=$(awk -v most="$took_ms" -v seed="$(date +%N)" 'BEGIN { srand(seed); print int(rand() * most * 0.6) + 20 }')
    sleep "$(awk -v ms="$wait_ms" 'BEGIN { print ms / 1000 }')"
    if kill -9 "$pid" 2>/dev/null; then
        done_kills=$((done_kills + 1))
        echo "  killed after $wait_ms ms ($done_kills of $kills)"
    fi
    wait "$pid" 2>/dev/null || true
    if [ -f "$work/broken/report.json" ]; then
        # Finished before its time: what is left of the kills falls on a fresh run.
        compare
        rm -rf -- "$work/broken"
    fi
done
(train "$work/broken")
compare
echo "the same bits, in every file"
