"""What of the calling shell's environment a job must not see."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from harness.process_group import TORCHRUN

NEEDED_TO_ASK = ("SLURM_CONF", "SLURM_JWT")  # how SLURM is reached, which is no property of a job
LEAKING = ("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "PMI_", "PMIX_")


@contextmanager
def own_environment() -> Iterator[None]:
    """Hide from sbatch, which hands its environment to the job, what describes the calling shell's own job.

    SBATCH_… would overrule the profile, and a shell inside an allocation has the SLURM_… of that.
    """
    leaked = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(LEAKING) and name not in NEEDED_TO_ASK) or name in (*TORCHRUN, "MASTER_ADDR", "MASTER_PORT")
    }
    for name in leaked:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(leaked)
