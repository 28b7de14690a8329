#!/bin/bash
#SBATCH --job-name=rankwise-compare
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
# sbatch slurm-comparison.sh reviews.csv --task.model ./encoder --compare.methods lora,delora
#
# A comparison on one machine, a run on each of its four GPUs. SIGTERM reaches rankwise, which takes the
# place of the shell (exec): runs under way end their step and are kept. Queued again, or submitted
# again by the same line, it reads the runs that are done and goes on with the others.
set -euo pipefail
exec rankwise compare "$@" --output "${SLURM_SUBMIT_DIR:-.}/runs/comparison"
