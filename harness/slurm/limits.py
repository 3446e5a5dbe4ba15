"""What SLURM allows, compared with what a profile promises and with what a study asks, before a job waits for ever."""

import getpass
import re
from collections.abc import Iterable
from contextlib import suppress

from harness.config.cluster_profile import Partition, SlurmProfile
from harness.config.settings.resources import Resources
from harness.errors import UserError, nearest
from harness.slurm import client

EVERYTHING = ("ALL", "(null)", "")


def compare_partition(name: str, promised: Partition) -> str:
    """Compare what a profile promises of a partition with what SLURM says of it.

    Raises:
        UserError: there is none, it is not up, or the profile promises more than it has.
    """
    lines = client.ask("sinfo", "--noheader", "--format=%R|%a|%l|%D|%c|%m|%G").splitlines()
    rows = [dict(zip("RalDcmG", line.split("|"), strict=True)) for line in lines]
    mine = [row for row in rows if row["R"] == name]
    if not mine:
        raise UserError(f"SLURM has no such partition{nearest(name, {row['R'] for row in rows})}")
    if all(row["a"] != "up" for row in mine):
        raise UserError(f"it is {mine[0]['a']}")
    limits = {
        "hours": hours(mine[0]["l"]),
        "nodes": sum(int(row["D"]) for row in mine),
        "cpus": max(int(row["c"].strip("+")) for row in mine),
        "memory_gb": max(int(row["m"].strip("+")) for row in mine) / 1000,  # SLURM's G is 1024 MB; be generous
        "gpus": max(_gpus(row["G"]) for row in mine),
    }
    for key, promise in promised.limits.items():
        if promise > limits[key]:
            raise UserError(f"the profile says {key}: {promise:g}, SLURM says {limits[key]:g}")
    return ", ".join(f"{key} {limit:g}" for key, limit in limits.items())


def hours(limit: str) -> float:
    """Read SLURM's days-hours:minutes:seconds."""
    if limit in ("infinite", "n/a", "UNLIMITED"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return 24 * int(days or 0) + seconds / 3600


def _gpus(resources: str) -> int:
    return sum(int(count) for count in re.findall(r"gpu:(?:[^:,()]+:)?(\d+)", resources))


def check_allowed(profile: SlurmProfile, asked: Iterable[Resources]) -> None:
    """Refuse what SLURM would take and never start, as no partition that it may go to allows so long, or it is closed
    to the account or QoS. Nothing is refused where SLURM does not answer.

    Raises:
        UserError: the first such resources, with the reason of each partition; or as `SlurmProfile.partition`.
    """
    partitions: dict[str, dict[str, str]] = {}
    with suppress(UserError):
        partitions = _partitions()
    for resources in dict.fromkeys(asked):
        names = (profile.partition(resources) or next(iter(_default(partitions)), "")).split(",")
        refusals = {name: _refusal(partitions[name], profile, resources) for name in names if name in partitions}
        if refusals and all(refusals.values()):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
            raise UserError(f"resources: SLURM has no partition that would ever start this ({reasons})")


def _partitions() -> dict[str, dict[str, str]]:
    """Return what SLURM says of its partitions, by their names."""
    lines = client.ask("scontrol", "show", "partition", "--oneliner").splitlines()
    fields = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
    return {field["PartitionName"]: field for field in fields if "PartitionName" in field}


def _default(partitions: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, fields in partitions.items() if fields.get("Default") == "YES"]


def _refusal(fields: dict[str, str], profile: SlurmProfile, resources: Resources) -> str | None:
    """Return why a partition would never start a job; None where it may."""
    longest, most = hours(fields.get("MaxTime", "n/a")), fields.get("MaxNodes", "")
    if resources.hours > longest:
        return f"{resources.hours:g} hours asked for, SLURM allows {longest:.3g}"
    if most.isdigit() and resources.nodes > int(most):
        return f"{resources.nodes} nodes asked for, SLURM allows {most}"
    for key, value in (("Accounts", profile.account), ("Qos", profile.qos)):
        allowed, denied = fields.get(f"Allow{key}", "ALL"), fields.get(f"Deny{key}", "").split(",")
        if value and (value in denied or (allowed not in EVERYTHING and value not in allowed.split(","))):
            word = key.lower().removesuffix("s") if key == "Accounts" else "QoS"
            return f"closed to {word} {value}" + (f"; open to {allowed}" if allowed not in EVERYTHING else "")
    return None


def check_account(profile: SlurmProfile) -> str:
    """Compare account and QoS of a profile with those that accounting lets this user have.

    Raises:
        UserError: one of them is not among these, or accounting does not answer.
    """
    user = getpass.getuser()
    words = ("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", "format=account,qos")
    rows = [line.split("|") for line in client.ask(*words).splitlines() if line.count("|") == 1]
    accounts = {account for account, _ in rows}
    qos = {name for account, names in rows if profile.account in (None, account) for name in names.split(",") if name}
    if profile.account and profile.account not in accounts:
        raise UserError(f"account: {user} has no account '{profile.account}'{nearest(profile.account, accounts)}")
    if profile.qos and profile.qos not in qos:
        raise UserError(f"qos: {user} has no QoS '{profile.qos}'{nearest(profile.qos, qos)}")
    return f"account {profile.account or 'by default'}, QoS {profile.qos or 'by default'}"
