#!/usr/bin/env bash
# An experiment as an array of SLURM jobs that know nothing of each other, one for each value of a
# setting. From the folder of the sources:
#
#   sbatch --array=0-2 book/cluster/array.sh fitting1d paper activation relu absolute spline-relu
#
# Each job has a folder of records of its own. When they are done, join them:
#
#   python -m lipsplines merge results-array/* --results results
#SBATCH --job-name=lipsplines
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
set -euo pipefail

experiment=$1 profile=$2 setting=$3
values=("${@:4}")
value=${values[$SLURM_ARRAY_TASK_ID]}
python=${LIPSPLINES_PYTHON:-.venv/bin/python}
"$python" -m lipsplines run "$experiment" --profile "$profile" --only "$setting=$value" \
    --jobs "${SLURM_CPUS_PER_TASK:-1}" --results "results-array/$value"
