#!/bin/bash
#SBATCH --job-name=rankwise
#SBATCH --nodes=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --requeue
# sbatch slurm.sh reviews.csv --task.model ./encoder
#
# One run on four GPUs. A job that is preempted is queued again, and --resume goes on from the last
# epoch's checkpoint; where there is none yet the run begins.
set -euo pipefail
torchrun --standalone --nproc-per-node 4 -m rankwise train "$@" --output "${SLURM_SUBMIT_DIR:-.}/runs/job" --resume
