#!/usr/bin/env bash
# Makes README's evaluation tables with the demo generator, on a GPU: run.sh ROWS OUT, ROWS as rows.py wrote them.
#
# SELFRAG is the command (selfrag), INDEX the passages (public/corpus), JOBS how many runs share the GPU (3). A run that was stopped
# goes on when this is called again. Ends with a line for each run and OUT/report.html.
set -euo pipefail
rows=$1 out=$2
selfrag=${SELFRAG:-selfrag} index=${INDEX:-public/corpus} jobs=${JOBS:-3}
mkdir -p "$out"

one() { # NAME FORM TASK ROWS OPTIONS…
    local name=$1 form=$2 task=$3 input=$4
    shift 4
    local began=$SECONDS
    if $selfrag eval "$form" --task "$task" --input "$rows/$input" --output "$out/$name.json" --index "$index" --kv-tokens 163840 \
        "$@" >"$out/$name.log" 2>&1; then
        echo "$name: $(tail -n 1 "$out/$name.log") ($((SECONDS - began)) s)"
    else
        echo "$name: failed, see $out/$name.log" >&2
    fi
}

runs() {
    cat <<END
popqa-adaptive short popqa popqa.jsonl --search --ndocs 5 --batch 48
popqa-always short popqa popqa.jsonl --search --ndocs 5 --mode always_retrieve --batch 48
popqa-always-no-critique short popqa popqa.jsonl --search --ndocs 5 --mode always_retrieve --w-rel 0 --w-sup 0 --w-use 0 --batch 48
popqa-always-one-passage short popqa popqa.jsonl --search --ndocs 1 --mode always_retrieve --batch 48
popqa-never short popqa popqa.jsonl --mode no_retrieval --batch 48
popqa-gold short popqa gold.jsonl --ndocs 1 --mode always_retrieve --batch 48
popqa-plain short popqa popqa.jsonl --baseline prompt_no_input --batch 48
popqa-plain-retrieval short popqa popqa.jsonl --search --ndocs 5 --mode always_retrieve --baseline prompt_no_input_retrieval --batch 48
pubhealth-adaptive short pubhealth pubhealth.jsonl --search --preset paper-2023 --batch 48
pubhealth-always short pubhealth pubhealth.jsonl --search --preset paper-2023 --mode always_retrieve --batch 48
pubhealth-never short pubhealth pubhealth.jsonl --preset paper-2023 --mode no_retrieval --batch 48
arc-adaptive short arc_c arc_c.jsonl --search --preset paper-2023 --batch 48
arc-always short arc_c arc_c.jsonl --search --preset paper-2023 --mode always_retrieve --batch 48
arc-never short arc_c arc_c.jsonl --preset paper-2023 --mode no_retrieval --batch 48
asqa-adaptive long asqa asqa.json --search --ndocs 5 --max_depth 3 --max_new_tokens 100 --batch 12
asqa-always long asqa asqa.json --search --ndocs 5 --max_depth 3 --max_new_tokens 100 --batch 12 --mode always_retrieve
asqa-always-no-critique long asqa asqa.json --search --ndocs 5 --max_depth 3 --max_new_tokens 100 --batch 12 --mode always_retrieve --w-rel 0 --w-sup 0 --w-use 0
asqa-always-one-path long asqa asqa.json --search --ndocs 5 --max_depth 3 --max_new_tokens 100 --batch 12 --mode always_retrieve --beam_width 1
asqa-never long asqa asqa.json --max_depth 3 --max_new_tokens 100 --batch 12 --mode no_retrieval
END
}

export -f one
export selfrag index rows out
runs | xargs -P "$jobs" -I{} bash -c 'one {}'
$selfrag eval report "$out"/*.json --output "$out/report.html"
