#!/usr/bin/env bash
# An experiment on the nodes of one SLURM job. From the folder of the sources, which all nodes see:
#
#   sbatch --ntasks=32 book/cluster/slurm.sh fitting1d --profile paper
#
# The words after the script are those of `python -m lipsplines run`. When time is up, submit it
# again: what is stored is not computed again. One task is one worker; give each a GPU with
# --gpus-per-task=1, or several cores for long trainings with --cpus-per-task=4.
#SBATCH --job-name=lipsplines
#SBATCH --ntasks=16
#SBATCH --cpus-per-task=1
#SBATCH --time=24:00:00
set -euo pipefail

python=${LIPSPLINES_PYTHON:-.venv/bin/python}
export LIPSPLINES_RESULTS=${LIPSPLINES_RESULTS:-$PWD/results} # all nodes must see it
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
mkdir -p "$LIPSPLINES_RESULTS"

# Whoever reaches a scheduler can run programs in your name. This certificate, which lies in a
# folder that only you can read, keeps out all who do not have it.
own=$(mktemp -d "$LIPSPLINES_RESULTS/.cluster-XXXXXX")
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=lipsplines \
    -keyout "$own/key.pem" -out "$own/cert.pem" 2>/dev/null
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=true
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$own/cert.pem
for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$own/cert.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$own/key.pem"
done

scheduler=
workers=
finish() {
    for process in $workers $scheduler; do
        kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true
    done
    rm -rf "$own"
}
trap finish EXIT

"$python" -m distributed.cli.dask_scheduler --protocol tls --port 0 --no-dashboard \
    --scheduler-file "$own/scheduler.json" &
scheduler=$!
srun --kill-on-bad-exit=0 "$python" -m distributed.cli.dask_worker \
    --scheduler-file "$own/scheduler.json" --protocol tls --nthreads 1 --memory-limit 0 \
    --no-dashboard --death-timeout 60 --local-directory "${TMPDIR:-/tmp}" &
workers=$!

"$python" -m lipsplines run "$@" --cluster "file:$own/scheduler.json"
