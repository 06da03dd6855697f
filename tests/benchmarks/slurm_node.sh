#!/bin/sh
# A Slurm of one node, without root's configuration: `slurm_node.sh COMMAND …` runs the command with sbatch, srun,
# squeue and scontrol in PATH and ends with its exit code. The daemons, their files and all jobs end with it.
#
# Debian: apt-get install slurm-wlm. Or, to leave the system alone, unpack the packages somewhere and name the folder:
#   apt-get download slurm-client slurmctld slurmd slurm-wlm-basic-plugins libhwloc15 libmunge2
#   for package in *.deb; do dpkg -x "$package" FOLDER; done; SLURM_ROOT=FOLDER tests/benchmarks/slurm_node.sh COMMAND …
set -eu
case "${1:---help}" in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d'; exit 0 ;; esac

root=${SLURM_ROOT:-}
libraries=$root/usr/lib/x86_64-linux-gnu
here=$(mktemp -d)
name=$(hostname -s)
mkdir "$here/state" "$here/spool"
found() { for each in "$root/usr/sbin/$1" "$root/usr/sbin/$1-wlm"; do [ -x "$each" ] && echo "$each" && return; done; }
cat > "$here/slurm.conf" <<EOF
ClusterName=one
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=$((20000 + $$ % 20000))
SlurmdPort=$((20001 + $$ % 20000))
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
PluginDir=$libraries/slurm-wlm
ReturnToService=2
NodeName=$name NodeAddr=127.0.0.1 CPUs=${SLURM_CPUS:-2} State=UNKNOWN
PartitionName=debug Nodes=$name Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF="$here/slurm.conf"
export PATH="$root/usr/bin:$root/usr/sbin:$PATH"
export LD_LIBRARY_PATH="$libraries:$libraries/slurm-wlm${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

"$(found slurmctld)" -D -i > "$here/ctld.out" 2>&1 &
controller=$!
sleep 1
"$(found slurmd)" -D -N "$name" -d "$(found slurmstepd)" > "$here/d.out" 2>&1 &
node=$!
end() {
    code=$?
    scancel --state=RUNNING --state=PENDING --user="$(id -un)" 2> /dev/null || true
    sleep 1
    kill "$node" "$controller" 2> /dev/null || true
    wait "$node" "$controller" 2> /dev/null || true
    [ -n "${SLURM_KEEP:-}" ] && echo "kept: $here" >&2 || rm -rf "$here"
    exit "$code"
}
trap end EXIT
tries=0
until sinfo -h -o %T 2> /dev/null | grep -q idle; do
    tries=$((tries + 1))
    if [ "$tries" -gt 30 ]; then
        tail -n 5 "$here"/*.log "$here"/*.out >&2
        echo "the node did not come up" >&2
        exit 1
    fi
    sleep 1
done
"$@"
