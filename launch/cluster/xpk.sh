#!/usr/bin/env bash
# CLUSTER=my-cluster IMAGE=REGISTRY/IMAGE:TAG \
#   bash launch/cluster/xpk.sh v5litepod-64 configs/NAME.py /gcs/runs/NAME [--config.field=value ...]
#
# A TPU slice on GKE. Every host of the slice runs the command; TPU's environment says which it is.
set -euo pipefail

: "${CLUSTER:?the name of the cluster}" "${IMAGE:?the image with this project and its environment}"
type=$1 config=$2 workdir=$3
shift 3
name=spatialevo-$(basename "$config" .py | tr '_' '-')
xpk workload create --cluster="$CLUSTER" --workload="$name" --tpu-type="$type" \
  --docker-image="$IMAGE" --max-restarts=20 \
  --command="python -m launch.train --config=$config --workdir=$workdir --distributed $*"
