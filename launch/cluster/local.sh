#!/usr/bin/env bash
# bash launch/cluster/local.sh 2 configs/tiny_cpu.py runs/two [--config.field=value ...]
#
# So many processes on this machine, DEVICES (1) CPU devices each: to see several hosts at work.
set -euo pipefail

processes=$1 config=$2 workdir=$3
shift 3
python=${PYTHON:-.venv/bin/python}
port=${PORT:-8476}
export JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=${DEVICES:-1}
started=()
# Told to stop, they are told: jobs in the background of a script do not hear of Ctrl-C.
trap 'kill -TERM "${started[@]}" 2>/dev/null; told=143' TERM INT
told=0
for ((number = 0; number < processes; number++)); do
  "$python" -m launch.train --config="$config" --workdir="$workdir" \
    --coordinator_address="127.0.0.1:$port" --num_processes="$processes" --process_id="$number" \
    "$@" &
  started+=($!)
done
code=0
for process in "${started[@]}"; do
  until wait "$process"; do
    last=$?
    # A signal ends the waiting, not the process.
    if ! kill -0 "$process" 2>/dev/null; then
      code=$(( code == 0 ? last : code ))
      break
    fi
  done
done
exit $(( told == 0 ? code : told ))
