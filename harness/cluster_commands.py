"""What the command line does with a cluster."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.launch.job import Job
    from harness.launch.profile import Profile, SlurmProfile
    from harness.store import Store

profile_option = click.option("--profile", envvar="HARNESS_PROFILE",
                              help="Name of a file in clusters/; without it, SLURM with its own defaults.")  # fmt: skip
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the sbatch files; send and write nothing.")


def show_texts(profile: "Profile", jobs: Sequence["Job"], store: "Store") -> list[str]:
    """Return what a submission would send, for a person to read; refuses what the profile's cluster cannot give."""
    from harness.launch.profile import LocalProfile
    from harness.launch.submission import texts

    if not jobs:
        return [f"{store.root}: everything is done already."]
    if isinstance(profile, LocalProfile):
        return [f"{len(jobs)} trainings on this machine, {profile.jobs} at once"]
    return list(texts(jobs, profile, store.scratch / store.study / "slurm"))


def send(profile: "SlurmProfile", todo: Sequence["Job"], store: "Store") -> None:
    """Send the jobs to SLURM, and say what became of them."""
    from harness.launch.submission import submit

    sent = submit(todo, profile, store.scratch / store.study / "slurm")
    if sent.known:
        click.echo(f"{len(sent.known)} trainings are in the queue already and were left there")
    if sent.without:
        click.echo(
            f"{len(sent.without)} of these were sent before some of their measurements were asked for; "
            "give the same command again when they are done", err=True,
        )  # fmt: skip
    if sent.ids:
        count = len(sent.arrays)
        click.echo(f"Submitted {len(sent.ids)} trainings as {count} array(s): {', '.join(sent.arrays)}")
    click.echo(f"Watch them with: harness status {store.study}")
