#!/usr/bin/env bash
# A Slurm of several nodes on this one machine, for tests: Debian's packages, as root, without systemd.
#
#   cluster.sh start [NODES=4]    install what is missing, start, wait until a job has run
#   cluster.sh kill-node n2       as if the machine lost its power: its slurmd and its jobs are killed
#   cluster.sh stop               end what `start` started and remove its files
#
# State lies in $CONVERTER_SLURM (default /tmp/converter-slurm). Each node has one CPU and 5000 MB; a job that takes more
# memory than it asked for is killed, as on a real cluster.
set -euo pipefail
STATE=${CONVERTER_SLURM:-/tmp/converter-slurm}
export SLURM_CONF=$STATE/slurm.conf
PACKAGES="slurmctld slurmd slurm-client munge"

fail() { echo "cluster.sh: $*" >&2; exit 1; }

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "waited $1 s in vain for: ${*:2}"
    sleep 0.2
  done
}

end_process() { # PIDFILE
  [ -s "$1" ] || return 0
  local pid
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$1"
}

start_munge() {
  mkdir -p /run/munge /var/log/munge
  chown munge:munge /run/munge /var/log/munge
  chmod 755 /run/munge
  if [ ! -s /etc/munge/munge.key ]; then
    dd if=/dev/urandom of=/etc/munge/munge.key bs=128 count=1 status=none
    chown munge:munge /etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
  fi
  if ! munge -n >/dev/null 2>&1; then
    runuser -u munge -- /usr/sbin/munged --pid-file=/run/munge/munged.pid
    cp /run/munge/munged.pid "$STATE/munged.pid"
  fi
  wait_for 10 bash -c 'munge -n | unmunge'
}

write_conf() { # NODES
  local host
  host=$(hostname -s)
  cat >"$SLURM_CONF" <<CONF
ClusterName=converter
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/spool.%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.%n.log
AccountingStorageType=accounting_storage/none
# No cgroups, no systemd: processes are found by /proc, and memory is watched by polling.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# The nodes are slices of one machine, whatever that has.
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=2
SchedulerType=sched/backfill
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=20
InactiveLimit=0
KillWait=2
MinJobAge=300
MaxArraySize=1001
NodeName=n[1-$1] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-$((17000 + $1))] CPUs=1 RealMemory=5000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
  local nodes=${1:-4} conf=/etc/slurm/slurm.conf
  [ "$(id -u)" = 0 ] || fail "root is needed to start Slurm"
  [ ! -e "$conf" ] || [ "$(readlink "$conf")" = "$SLURM_CONF" ] || fail "$conf exists: this machine has a Slurm of its own"
  # shellcheck disable=SC2086
  if ! dpkg -s $PACKAGES >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $PACKAGES >/dev/null
  fi
  mkdir -p "$STATE/controller" /etc/slurm
  start_munge
  write_conf "$nodes"
  # srun inside a job runs without SLURM_CONF (snakemake-executor-plugin-slurm-jobstep 0.6.1): the default path must do.
  ln -sfn "$SLURM_CONF" "$conf"
  /usr/sbin/slurmctld -f "$SLURM_CONF"
  wait_for 20 scontrol ping
  for node in $(seq "$nodes"); do
    mkdir -p "$STATE/spool.n$node"
    /usr/sbin/slurmd -f "$SLURM_CONF" -N "n$node"
  done
  wait_for 60 bash -c "[ \$(sinfo -h -N -t idle -o %N | wc -l) = $nodes ]"
  srun -N1 -t1 true
  sinfo
  echo "export SLURM_CONF=$SLURM_CONF"
}

kill_node() { # NODE
  local slurmd
  slurmd=$(cat "$STATE/slurmd.$1.pid")
  rm -f "$STATE/slurmd.$1.pid"
  kill -9 "$slurmd"
  # A job's supervisor outlives slurmd: its log tells the node; the job's processes know it from their environment.
  for process in /proc/[0-9]*; do
    if [ -n "$(find "$process/fd" -lname "$STATE/slurmd.$1.log" 2>/dev/null)" ] ||
      tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qx "SLURMD_NODENAME=$1"; then
      kill -9 "${process#/proc/}" 2>/dev/null || true
    fi
  done
  scontrol update nodename="$1" state=down reason="lost its power"
}

stop() {
  if scancel --user="$(id -un)" 2>/dev/null; then
    for _ in $(seq 50); do [ -n "$(squeue --noheader 2>/dev/null)" ] || break; sleep 0.2; done
  fi
  for file in "$STATE"/slurmd.*.pid; do end_process "$file"; done
  end_process "$STATE/slurmctld.pid"
  end_process "$STATE/munged.pid"
  [ "$(readlink /etc/slurm/slurm.conf)" != "$SLURM_CONF" ] || rm -f /etc/slurm/slurm.conf
  rm -rf "$STATE"
}

case "${1:-}" in
  start) start "${2:-4}" ;;
  kill-node) kill_node "$2" ;;
  stop) stop ;;
  *) fail "write start [NODES], kill-node NODE or stop" ;;
esac
