"""What is done to a grid on the test cluster; each act is tried until it hit a job at work, and says what it hit."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cluster.colleague import Colleague
from support.real_slurm import CLUSTER, at_once, harness, queued_jobs, records, slurm, wait_for

from harness.files import read_json, read_jsonl
from harness.launchers.launcher import QueuedJob
from harness.store.records import Heartbeat

STUDY = "chaos"
PATIENCE = 1800
AT_ONCE = 3  # jobs that may run while the disturbances last
DAEMONS = Path("/run/slurm")
WELL = {"PENDING", "RUNNING", "COMPLETING", "COMPLETED"}
FULL = b"No space left on device"


@dataclass
class Chaos:
    """What is done to a grid, and where. kind: what SLURM calls a job's end, or the class of a failure.

    colleague: who works in it at the same time. submit: sends the grid again. status: what it was with a full disk.
    killed: ids of the jobs that were killed here. begun: when, as sacct reads it.
    """

    folder: Path
    random: random.Random
    colleague: Colleague
    submit: Callable[[], None]
    done: list[str] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)
    status: str = ""
    begun: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S"))

    def hold(self) -> None:
        """Let what is in the queue wait, so that the grid is not done before everything was done to it."""
        quietly("scontrol", "hold", ",".join(job.id for job in queued_jobs(STUDY) if job.state == "PENDING"))

    def jobs(self) -> list[QueuedJob]:
        """Return what SLURM holds of the grid, some of it running or about to."""
        jobs = queued_jobs(STUDY)
        tend(jobs, AT_ONCE)
        return jobs

    def victim(self) -> QueuedJob:
        """Return a job that is at work on its training, once there is one."""
        working: list[QueuedJob] = []

        def look() -> bool:
            jobs = self.jobs()
            working[:] = [job for job in jobs if job.state == "RUNNING" and self.training(job)]
            return bool(working) or not jobs

        wait_for(look, PATIENCE, every=0.1)
        assert working, "the grid was done before everything was done to it; give it more to do"
        time.sleep(self.random.random())  # not always in the first moment of its work
        return self.random.choice(sorted(working, key=lambda job: job.id))

    def training(self, job: QueuedJob) -> str | None:
        """Return the training that a job is at work on, with its step; None where it is not, or not yet."""
        for name, record in records(self.folder, STUDY).items():
            if (record["token"], record["index"]) == job.place:
                run = self.folder / "results" / STUDY / name
                heartbeat = Heartbeat.read(run)
                lines = read_jsonl(run / "train.jsonl")
                step = int(lines[-1]["step"]) if lines else 0
                return f"{name}, step {step}" if heartbeat and heartbeat.alive else None
        return None

    def until_hit(self, words: str, disturb: Callable[[QueuedJob], None], kind: str) -> None:
        """Disturb a job at work, and others, until SLURM's accounting calls what became of one `kind`; say which."""
        for _ in range(20):
            job = self.victim()
            training, before = self.training(job), ended()
            disturb(job)
            wait_for(partial(ended_since, before, kind), 20)
            if hit := ended_since(before, kind):
                self.tell(f"{words}; {kind}: {', '.join(hit)}", f"{job.id} was at {training}")
                return
            print(f"{words}: {job.id} had ended by itself; again", flush=True)
        raise AssertionError(f"{words}: hit nothing in twenty attempts")

    def tell(self, words: str, more: str = "") -> None:
        """Remember what was done, and print it."""
        self.done.append(words)
        print(f"{time.strftime('%H:%M:%S')} {words}{f' ({more})' if more else ''}", flush=True)

    def requeue(self) -> None:
        """As an operator does."""
        self.until_hit("scontrol requeue", lambda job: quietly("scontrol", "requeue", job.id), "REQUEUED")

    def kill(self) -> None:
        """SIGKILL to all of a job."""

        def kill(job: QueuedJob) -> None:
            self.killed.add(job.id)
            quietly("scancel", "--signal=KILL", job.id)

        with self.colleague.quiet:  # what they cancel ends alike
            self.until_hit("SIGKILL", kill, "CANCELLED")

    def cancel(self) -> None:
        """The first person cancels, though as root they might end everybody's; then sends it again."""
        with self.colleague.quiet:
            output = harness(self.folder, "cancel", STUDY, "--yes")
            self.submit()
            self.hold()
        self.tell("cancelled and sent again", output.strip())

    def ended_by_others(self) -> list[str]:
        """Return the jobs that SLURM's accounting calls cancelled by somebody else than who sent them."""
        columns = "--format=JobID,State,UID,JobName"
        rows = [line.split("|") for line in slurm("sacct", "-S", self.begun, "-aXDnP", columns).splitlines()]
        ours = [(id, state.split(), uid) for id, state, uid, name in rows if name.startswith(f"{STUDY}-")]
        return [
            f"{id} of {uid}: {' '.join(state)}" for id, state, uid in ours
            if state[0] == "CANCELLED" and state[-1] not in ("CANCELLED", uid) and id not in self.killed
        ]  # fmt: skip

    def node_down(self) -> None:
        """Drain a node on which something runs, and take it down."""

        def down(job: QueuedJob) -> None:
            node = node_of(job)
            steps = steps_on(node)
            for state in ("DRAIN", "DOWN"):
                slurm("scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=chaos")
            wait_for(lambda: not alive(steps), 60)
            slurm(str(CLUSTER), "node-on", node)

        self.until_hit("node drained and down", down, "NODE_FAIL")

    def daemon_killed(self) -> None:
        """SIGKILL to a node's slurmd and to what watches its jobs; these run on unseen, and SLURM queues them again.

        With slurmd alone a short job would tell SLURM of its end before the node is given up. An srun that is left asks
        after its job, and slurmctld 22.05 crashes of that just when it starts the job anew (build_job_info_resp).
        """

        def kill(job: QueuedJob) -> None:
            node = node_of(job)
            daemon, steps = (DAEMONS / f"slurmd-{node}.pid").read_text().strip(), alive(steps_on(node))
            quietly("kill", "-9", daemon, *steps, *sruns_on(node))
            # sinfo would call it completing, for nobody is left to say that its jobs are over
            wait_for(lambda: "State=DOWN" in slurm("scontrol", "show", "node", node), 120)
            slurm(str(CLUSTER), "node-on", node)

        self.until_hit("slurmd killed", kill, "NODE_FAIL")

    def preempt(self) -> None:
        """A job in the higher partition wants both nodes."""
        words = ("sbatch", "--parsable", "-p", "gpu", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")

        def send(_: QueuedJob) -> None:
            other = slurm(*words)
            wait_for(lambda: not slurm("squeue", "-h", "-t", "PD,R,CG", "-j", other), 300)

        self.until_hit("both nodes taken by a higher partition", send, "PREEMPTED")

    def controller_killed(self) -> None:
        """SIGKILL to slurmctld, which is then started again; what it had not yet saved it has forgotten."""
        at_work = self.training(self.victim())
        before = controller()
        quietly("kill", "-9", before)
        wait_for(lambda: controller() not in ("", before), 120)
        wait_for(lambda: not slurm("sinfo", "-h", "-t", "unknown", "-o", "%N"), 120)  # it has asked the nodes
        assert controller() != before
        self.tell("slurmctld killed and started again", f"a job was at {at_work}")

    def fill(self) -> None:
        """Not a byte is left where the results go, until a run has failed of it whose job is not queued again."""
        with self.colleague.quiet:  # who would send it again
            self._fill()

    def _fill(self) -> None:
        self.victim()
        filler, before, hit = self.folder / "results" / "filler", set(self.without_room()), set()

        def look() -> bool:
            write_all(filler)
            hit.update(set(self.without_room()) - before)
            return bool(hit) or not self.jobs()

        wait_for(look, 300)
        filler.unlink()
        assert hit, "nothing failed on the full disk"
        self.status = harness(self.folder, "status", STUDY)
        self.tell(f"results' filesystem full; disk full: {', '.join(sorted(hit))}")

    def without_room(self) -> Iterator[str]:
        """Yield the trainings that failed on a full disk, as their files or their jobs' output tell, for good."""
        again = {job.place for job in queued_jobs(STUDY)}
        for name, record in records(self.folder, STUDY).items():
            output = self.folder / "scratch" / STUDY / record["folder"] / f"{record['job']}_0_log.out"
            error = read_json(self.folder / "results" / STUDY / name / "error.json") or {}
            full = error.get("class") == "disk full" or (output.is_file() and FULL in output.read_bytes())
            if full and (record["token"], record["index"]) not in again:
                yield name


def ended() -> Counter[tuple[str, str]]:
    """Count how the study's jobs ended by SLURM's accounting, other than well: (id, state), each attempt by itself."""
    columns = "--format=JobID,State,JobName"
    output = slurm("sacct", "-S", "now-6hours", "-X", "-D", "-n", "-P", columns)
    rows = [line.split("|") for line in output.splitlines()]
    states = [(id, state.partition(" ")[0]) for id, state, name in rows if name.startswith(f"{STUDY}-")]
    return Counter(row for row in states if row[1] not in WELL)


def ended_since(before: Counter[tuple[str, str]], kind: str) -> list[str]:
    return sorted(id for id, state in (ended() - before).elements() if state == kind)


def is_held(job: QueuedJob) -> bool:
    """Tell whether a job waits until somebody releases it, as SLURM has it where a node could not start it."""
    return job.state == "PENDING" and "held" in job.reason.lower()


def tend(jobs: list[QueuedJob], running: int) -> None:
    """Do what an operator does: release jobs until so many are free to run, and take nodes that wait for a word back.

    A controller that crashed may have forgotten the last jobs that it started. It starts them again, the node has them
    already, and SLURM holds the jobs and drains the node.
    """
    for node in slurm("sinfo", "-h", "-N", "-p", "gpu", "-t", "drained,down", "-o", "%N").split():
        slurm(str(CLUSTER), "node-on", node)
    waiting, free = [job.id for job in jobs if is_held(job)], [job for job in jobs if not is_held(job)]
    for id in waiting[: max(0, running - len(free))]:
        quietly("scontrol", "release", id)
    at_once([job.id for job in free if job.reason == "BeginTime"])


def controller() -> str:
    """Return the id of SLURM's controller; nothing where there is none."""
    return subprocess.run(["pgrep", "-o", "-x", "slurmctld"], capture_output=True, text=True).stdout.strip()


def node_of(job: QueuedJob) -> str:
    return slurm("squeue", "-h", "-j", job.id, "-o", "%N") or "n1"


def steps_on(node: str) -> str:
    """Return a pattern of the processes that SLURM has on a node.

    A node that comes back before they have ended would be given the same jobs, and refuse to run them twice.
    """
    return rf"^slurmstepd: \[({'|'.join(slurm('squeue', '-h', '-w', node, '-o', '%A').split()) or '-'})\."


def sruns_on(node: str) -> list[str]:
    """Return the sruns of a node's jobs, which know them by their environment."""
    jobs = {f"SLURM_JOB_ID={id}".encode() for id in slurm("squeue", "-h", "-w", node, "-o", "%A").split()}
    sruns = subprocess.run(["pgrep", "-x", "srun"], capture_output=True, text=True).stdout.split()
    return [id for id in sruns if jobs & environment_of(id)]


def environment_of(process: str) -> set[bytes]:
    try:
        return set(Path(f"/proc/{process}/environ").read_bytes().split(b"\0"))
    except OSError:  # it has ended
        return set()


def alive(steps: str) -> list[str]:
    return subprocess.run(["pgrep", "-f", steps], capture_output=True, text=True).stdout.split()


def quietly(*words: str) -> None:
    """Tell SLURM what it may refuse, for the job may have ended, or begun."""
    subprocess.run(words, capture_output=True)


def write_all(filler: Path) -> None:
    """Write a file until its disk is full."""
    with filler.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
