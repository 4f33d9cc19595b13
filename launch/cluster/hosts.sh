#!/usr/bin/env bash
# bash launch/cluster/hosts.sh "host0 host1" configs/NAME.py /shared/runs/NAME [--config.field=value ...]
#
# By hand: over ssh, from the project's folder, which all hosts see under the same path. host0
# coordinates. Ends when all processes have ended, with the exit code of the first that failed.
set -euo pipefail

read -ra hosts <<<"$1"
config=$2 workdir=$3
shift 3
port=${PORT:-8476}
for number in "${!hosts[@]}"; do
  ssh -tt "${hosts[$number]}" "cd $(printf %q "$PWD") && exec .venv/bin/python -m launch.train \
    --config=$(printf %q "$config") --workdir=$(printf %q "$workdir") \
    --coordinator_address=${hosts[0]}:$port --num_processes=${#hosts[@]} --process_id=$number \
    $(printf '%q ' "$@")" &
done
code=0
for _ in "${hosts[@]}"; do
  wait -n || code=$(( code == 0 ? $? : code ))
done
exit "$code"
