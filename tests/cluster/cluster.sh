#!/usr/bin/env bash
# A real SLURM with accounting on one Debian machine, for the integration tests: two nodes of two cores each, run as
# root. The "GPUs" are empty files: SLURM schedules them, and no device stands behind them.
# Accounts: root, of root and nobody, without limits; limited, also of both, of which a user may have three jobs.
# Partitions: gpu, which takes the nodes from the others; low, whose jobs are then queued again; scavenge, whose jobs
# are then ended; closed, which takes jobs and starts none.
# Usage: cluster.sh up | down | accounting-off | accounting-on | node-on NODE
set -euo pipefail
run=/run/slurm
host=$(hostname -s)

install_packages() {
  command -v slurmctld >/dev/null && command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null && return
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm slurmdbd munge mariadb-server >/dev/null
}

write_configuration() {
  mkdir -p $run/gpu /run/munge /run/mysqld /var/log/munge /var/log/slurm /var/spool/slurmctld /var/spool/slurmd-n{1,2} /etc/slurm
  chown munge:munge /run/munge /var/log/munge
  chown mysql:mysql /run/mysqld
  touch $run/gpu/gpu{0,1}
  cat >/etc/slurm/slurmdbd.conf <<X
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=/var/log/slurm/slurmdbd.log
PidFile=$run/slurmdbd.pid
X
  chmod 600 /etc/slurm/slurmdbd.conf
  cat >/etc/slurm/slurm.conf <<X
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd-%n
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=10
SchedulerParameters=bf_interval=2,sched_interval=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=limits
GresTypes=gpu
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=2 RealMemory=10000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=scavenge Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN PriorityTier=1
X
  echo "NodeName=n[1-2] Name=gpu File=$run/gpu/gpu[0-1]" >/etc/slurm/gres.conf
}

start_accounting() {
  until_true database_answers
  mysql -e "create database if not exists slurm_acct_db;
            create user if not exists 'slurm'@'localhost' identified by 'slurm';
            grant all on slurm_acct_db.* to 'slurm'@'localhost';"
  running slurmdbd || slurmdbd
  until_true sacctmgr -n show cluster
  sacctmgr -i add cluster local >/dev/null 2>&1 || true
  for words in "account root" "account limited MaxSubmitJobs=3" "user root,nobody Account=root,limited DefaultAccount=root"; do
    sacctmgr -i add $words Cluster=local >/dev/null 2>&1 || true # they are there already
  done
}

database_answers() { # started here, so that one that was still going down at first is started again
  running mariadbd || (setsid mariadbd --user=mysql --bind-address=127.0.0.1 >/var/log/slurm/mariadb.log 2>&1 &)
  mysqladmin ping
}

up() {
  install_packages
  write_configuration
  running munged || su -s /bin/sh munge -c 'munged --force'
  start_accounting
  running slurmctld || start_controller
  for node in n1 n2; do
    pgrep -F $run/slurmd-$node.pid slurmd >/dev/null 2>&1 || slurmd -N $node
  done
  until_true both_idle
  sinfo
}

start_controller() { # and again whenever it crashes, as an init system would; ended properly, it stays so
  (ulimit -c 0; cd /; setsid bash -c 'until slurmctld -D; do sleep 1; done' >/dev/null 2>&1 </dev/null &)
  until_true controller_answers
  scancel --user=root # what an earlier cluster left
}

down() { # each by the id in its own pid file
  for daemon in slurmd-n1 slurmd-n2 slurmctld slurmdbd; do
    pkill -F $run/$daemon.pid "${daemon%-n?}" 2>/dev/null || true
  done
  mysqladmin shutdown 2>/dev/null || true
}

node_on() { # a node whose daemon was killed
  pgrep -F "$run/slurmd-$1.pid" slurmd >/dev/null 2>&1 || slurmd -N "$1"
  scontrol update "NodeName=$1" State=RESUME 2>/dev/null || true # it may be back by itself
}

running() { pgrep -x "$1" >/dev/null; }
controller_answers() { scontrol ping | grep -q "is UP"; }
both_idle() { [[ $(sinfo -h -N -p gpu -t idle -o %N | sort -u | wc -l) == 2 ]]; }
until_true() {
  for _ in $(seq 120); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done
  echo "gave up waiting for: $*" >&2
  return 1
}

case "${1:-}" in
  up) up ;;
  down) down ;;
  accounting-off) pkill -F $run/slurmdbd.pid slurmdbd ;;
  accounting-on) start_accounting ;;
  node-on) node_on "$2" ;;
  *) echo "usage: cluster.sh up | down | accounting-off | accounting-on | node-on NODE" >&2; exit 2 ;;
esac
