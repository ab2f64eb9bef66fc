#!/usr/bin/env bash
# One training on several machines: sbatch scripts/slurm/multi_node.sh --config scripts/recipes/omniglot/protonet.yaml \
#   --episodes_per_step 8 --run_dir runs/multi_node
# Every option after the script's name is one of `fewshot train`. episodes_per_step counts over all processes.
# The run folder and the data lie where every machine sees them. Interrupted, go on with --resume.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
set -euo pipefail

processes="${SLURM_GPUS_ON_NODE:-1}" # of each machine: one for each GPU
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((${SLURM_CPUS_PER_TASK:-1} / processes))}"

srun python -m torch.distributed.run \
  --nnodes "$SLURM_NNODES" --nproc_per_node "$processes" \
  --rdzv_backend c10d --rdzv_id "$SLURM_JOB_ID" --rdzv_endpoint "$first:${PORT:-29500}" \
  -m fewshot train "$@"
