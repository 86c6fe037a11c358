#!/bin/bash
# A Slurm cluster of two nodes on this one machine, and the pipeline on it: folds and contrasts side by side, one job killed while it works.
#
#     sudo PATH="$PWD/.venv/bin:$PATH" bash benchmarks/slurm_rehearsal.sh     # Debian or Ubuntu; installs slurm-wlm and munge
#
# Both nodes claim 16 cores, 64 GB and one GPU, which is a name without a device: what the pipeline asks for is placed as on a real cluster.
# Everything is written to a new folder; the daemons are ended with the script. Written for a container: it replaces /etc/slurm/slurm.conf.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d -t slurm_rehearsal.XXXXXX)
host=$(hostname -s)
export PYTHONPATH=$PWD OMP_NUM_THREADS=1

which slurmctld slurmd munged sbatch > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge > "$work/apt.txt"
python -c "import snakemake_executor_plugin_slurm" || { echo 'The executor is needed: pip install -e ".[slurm]"'; exit 1; }

cat > /etc/slurm/slurm.conf << END
ClusterName=rehearsal
SlurmctldHost=$host
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.%n.log
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
NodeName=node1 NodeHostname=$host Port=17001 CPUs=16 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
NodeName=node2 NodeHostname=$host Port=17002 CPUs=16 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
END
echo "Name=gpu File=/dev/null" > /etc/slurm/gres.conf  # a name is all that a rehearsal needs
mkdir -p "$work/state" "$work/spool.node1" "$work/spool.node2" /run/munge
chown munge: /run/munge

end_daemons() {
    for file in "$work"/*.pid; do kill "$(cat "$file")" 2> /dev/null || true; done
    [ -z "${munge_pid:-}" ] || kill "$munge_pid" || true
}
trap end_daemons EXIT
if ! munge -n > /dev/null 2>&1; then
    runuser -u munge -- munged --foreground > "$work/munged.log" 2>&1 &
    munge_pid=$!
    for _ in {1..50}; do munge -n > /dev/null 2>&1 && break || sleep 0.2; done
fi
slurmctld
slurmd -N node1
slurmd -N node2
for _ in {1..50}; do [ "$(sinfo --noheader -o %t)" = idle ] && break || sleep 0.5; done
sinfo --version
sinfo -N -o "%N %t %c cores %m MB %G"

python -m t4e_utils.competitions.brain_tumor.phantoms "$work/phantoms" --size 32 --n-brats 4 --n-overlap 1 --n-train 6 --n-test 2 --n-jobs 1 2> /dev/null
pipeline() {
    python -m snakemake --configfile benchmarks/tiny.yaml "${@:2}" --config run_dir="$1" rsna_dir="$work/phantoms/rsna" brats_dir="$work/phantoms/brats21"
}
on_slurm() {
    pipeline "$work/slurm" --workflow-profile profiles/slurm --slurm-status-command squeue --slurm-no-account --slurm-init-seconds-before-status-checks 5 --latency-wait 10
}
trainings() { squeue --noheader --states R -o "%i %N %M %k" | grep train_cls || true; }  # job, node, time, rule

since=$SECONDS
on_slurm > "$work/first.txt" 2>&1 &
first=$!
until [ "$(trainings | wc -l)" = 2 ]; do
    kill -0 $first 2> /dev/null || { tail -n 40 "$work/first.txt"; exit 1; }
    sleep 0.5
done
echo "after $((SECONDS - since)) s two trainings side by side, one a node and one a GPU:"
trainings
sleep 8
job=$(trainings | head -n 1 | cut -d " " -f 1)
scancel --signal=KILL --full "$job"
echo "job $job gets SIGKILL while it works"
wait $first && { echo "The killed job was not noticed."; exit 1; }
echo "the first call ended with status 1 after $((SECONDS - since)) s; submission.csv is $([ -e "$work/slurm/submission.csv" ] && echo there || echo not there)"
grep -h "Error in rule" "$work/first.txt" | sort | uniq -c

since=$SECONDS
on_slurm > "$work/second.txt" 2>&1 || { tail -n 40 "$work/second.txt"; exit 1; }
echo "the second call finished after $((SECONDS - since)) s; its jobs:"
sed -n '/^job  *count/,/^total/p' "$work/second.txt"

since=$SECONDS
pipeline "$work/local" --cores 2 > "$work/local.txt" 2>&1
echo "the same on one machine without Slurm and without a kill: $((SECONDS - since)) s"
cmp "$work/slurm/submission.csv" "$work/local/submission.csv" && echo "both submissions are the same, to the byte"
