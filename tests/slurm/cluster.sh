#!/usr/bin/env bash
# A real Slurm on one machine, for tests: a controller and two virtual nodes with fake GPUs.
#
#   cluster.sh install   Debian's packages, if they are not there
#   cluster.sh start     the daemons, and wait until both nodes are idle
#   cluster.sh stop      every job and daemon that start left, and the configuration
#
# Needs root on Debian or Ubuntu; no systemd, no cgroups, no database. A GPU is an empty file,
# which is enough for Slurm to allocate it and to set CUDA_VISIBLE_DEVICES.
# The configuration is /etc/slurm/slurm.conf, as job steps lose SLURM_CONF. A file that is not of these
# tests is refused; ours is removed at the end: with it and without a controller, every Slurm command
# takes ten seconds.
set -euo pipefail

NAME=knowcap-test
NODES=2 CPUS=4 MEMORY_MB=6000 GPUS=2
STATE=/var/tmp/knowcap-slurm
CONFIG=/etc/slurm
MARK="# written by knowcap's tests/slurm/cluster.sh"
HOST=$(hostname -s)

fail() { echo "cluster.sh: $*" >&2; exit 1; }

until_true() { # until_true SECONDS COMMAND...
  local tries=$(($1 * 10)); shift
  for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  fail "timed out: $*; see $STATE/log"
}

runs() { # runs PROGRAM PID_FILE: whether the process of a pid file is alive and that program
  [ -s "$2" ] && [[ $(readlink "/proc/$(cat "$2")/exe") == */"$1"* ]]
}

install() {
  command -v slurmctld slurmd sbatch munged >/dev/null && return
  command -v apt-get >/dev/null || fail "no apt-get to install Slurm with"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq --no-install-recommends slurmctld slurmd slurm-client munge
  } >/tmp/knowcap-slurm-install.log 2>&1 || fail "apt-get failed, see /tmp/knowcap-slurm-install.log"
}

configure() {
  if [ -e "$CONFIG/slurm.conf" ] && ! grep -qxF "$MARK" "$CONFIG/slurm.conf"; then
    fail "$CONFIG/slurm.conf: this machine has its own Slurm, which the tests do not touch"
  fi
  mkdir -p "$CONFIG" "$STATE"/{state,log,run}
  cat >"$CONFIG/slurm.conf" <<EOF
$MARK
ClusterName=$NAME
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# The nodes may have more CPUs and memory than the machine.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
$(for i in $(seq $NODES); do
  echo "NodeName=node$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((16900 + i))" \
    "CPUs=$CPUS RealMemory=$MEMORY_MB Gres=gpu:$GPUS"
done)
PartitionName=main Nodes=node[1-$NODES] Default=YES MaxTime=60 DefaultTime=5
# Minutes that a job may exceed its limit, as jobs start slowly on a busy machine.
OverTimeLimit=15
# Without cgroups: processes are found in /proc, and memory is checked every second.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
# Without a database: squeue lists ended jobs for this many seconds.
AccountingStorageType=accounting_storage/none
MinJobAge=7200
# Schedule without delay.
SchedulerParameters=batch_sched_delay=0,sched_interval=2,defer_batch=no,bf_interval=2
ReturnToService=2
KillWait=3
CompleteWait=0
StateSaveLocation=$STATE/state
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdPidFile=$STATE/run/%n.pid
SlurmdLogFile=$STATE/log/%n.log
SlurmdSpoolDir=$STATE/spool.%n
EOF
  for i in $(seq 0 $((GPUS - 1))); do touch "$STATE/gpu$i"; done
  for i in $(seq $NODES); do
    echo "NodeName=node$i Name=gpu File=$STATE/gpu[0-$((GPUS - 1))]"
  done >"$CONFIG/gres.conf"
  echo "CgroupPlugin=cgroup/v1" >"$CONFIG/cgroup.conf"
}

start_munge() {
  munge -n >/dev/null 2>&1 && return
  mkdir -p /run/munge /var/log/munge /var/lib/munge
  chown munge:munge /run/munge /var/log/munge /var/lib/munge
  chmod 0755 /run/munge
  if [ ! -s /etc/munge/munge.key ]; then
    (umask 077; head -c 1024 /dev/urandom >/etc/munge/munge.key)
    chown munge:munge /etc/munge/munge.key
  fi
  rm -f /run/munge/munge.socket.2*
  runuser -u munge -- /usr/sbin/munged
  touch "$STATE/run/munge-is-ours"
  until_true 10 munge -n
}

all_idle() { [ "$(sinfo --noheader --states=idle --format=%D)" = $NODES ]; }

start() {
  getent hosts "$HOST" >/dev/null || echo "127.0.0.1 $HOST" >>/etc/hosts
  stop
  configure
  start_munge
  slurmctld -c # discard the state of an earlier cluster
  for i in $(seq $NODES); do
    mkdir -p "$STATE/spool.node$i"
    slurmd -N "node$i"
  done
  until_true 60 all_idle
}

stop() {
  local pid_file process
  if runs slurmctld "$STATE/run/slurmctld.pid"; then
    timeout 20 scancel --quiet --user=root 2>/dev/null || true
    timeout 20 bash -c 'while [ -n "$(squeue --noheader)" ]; do sleep 0.2; done' || true
  fi
  for pid_file in "$STATE"/run/node*.pid "$STATE/run/slurmctld.pid"; do
    runs slurm "$pid_file" || continue
    kill "$(cat "$pid_file")"
    until_true 20 eval "! runs slurm '$pid_file'"
  done
  # Processes that outlived their job.
  for process in $(grep -lsz "^SLURM_CLUSTER_NAME=$NAME\$" /proc/[0-9]*/environ | cut -d/ -f3); do
    [ "$process" = $$ ] || kill -9 "$process" 2>/dev/null || true
  done
  if [ -e "$STATE/run/munge-is-ours" ]; then
    kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
  fi
  if grep -qsxF "$MARK" "$CONFIG/slurm.conf"; then
    rm -f "$CONFIG"/{slurm,gres,cgroup}.conf
  fi
  rm -rf "$STATE"
}

[ "$(id -u)" = 0 ] || fail "needs root"
case ${1:-} in
  install | start | stop) "$1" ;;
  *) sed -n '2,6p' "$0" >&2; exit 2 ;;
esac
