"""The command line: its commands, and which mistake is whose. The module of a command is imported when it is called, so
that help answers at once."""

import atexit
import gc
import importlib
import io
import os
import sys
from contextlib import suppress

import click

from harness.errors import UserError, one_line
from harness.plain_text import cut, escape_controls

# By workflow: command → its module in `harness.commands`, and what it does in one line.
WORKFLOWS = {
    "Plan and run": {
        "init": ("init", "Make the folder NAME: a term of the loss, a grid, a scale and a test to start from."),
        "plan": ("grid_commands.plan_grids", "List every run of GRIDS, and what they cost."),
        "run": ("grid_commands.run_grids", "Run GRIDS on this machine; what is done already is not done again."),
        "submit": ("grid_commands.submit_grids", "Send GRIDS to a cluster's queue."),
    },
    "Watch and mend": {
        "status": ("status_retry_cancel", "Say how each training of STUDY stands."),
        "logs": ("status_retry_cancel", "Print the end of what the job of RUN wrote, or STUDY's failures."),
        "show": ("status_retry_cancel", "Print what is known of a training."),
        "retry": ("status_retry_cancel", "Send the failed trainings of STUDY to SLURM again."),
        "cancel": ("status_retry_cancel", "End your jobs of STUDY."),
        "doctor": ("doctor", "Examine this machine, or a SLURM cluster, before the first job."),
    },
    "Results": {
        "report": ("report", "Write STUDY's report."),
        "collect": ("report", "Write STUDY's results as one tidy CSV."),
        "bundle": ("report", "Pack STUDY into one archive."),
    },
    "Measure": {
        "measure": ("measure_probe", "Measure SAMPLES against a reference."),
        "measure-study": ("measure_probe", "Add to STUDY's measurements the metrics that they lack."),
        "probe": ("measure_probe", "Measure the representations of STUDY's networks."),
    },
    "Data, weights and settings": {
        "data": ("data_encode", "Get and check data sets."),
        "encode": ("data_encode", "Pack the latents of the photos in SOURCE."),
        "weights": ("weights", "Import and export published weights."),
        "keys": ("key_listing", "List the keys of grid files, scale files and settings."),
    },
}
COMMANDS = {name: command for workflow in WORKFLOWS.values() for name, command in workflow.items()}
EPILOG = """Exit codes: 0, all that was asked for is done; 1, not all of it is; 2, a mistake to mend;
75, stopped in time, as --minutes asked; 130, stopped.

\b
Completion: eval "$(_HARNESS_COMPLETE=bash_source harness)"
"""
# Exit codes. Beside them 0: all that was asked for is done; and 1: not all is, or nobody reads the output any more.
MISTAKE, STOPPED = 2, 130


class LazyGroup(click.Group):
    """A group whose `commands` only stand for those of `COMMANDS`: the one that is called is imported then."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is called, or refuse as click does."""
        name, command, rest = super().resolve_command(ctx, args)
        if name:
            module = importlib.import_module(f"harness.commands.{COMMANDS[name][0]}")
            command = getattr(module, name.replace("-", "_"))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by workflow."""
        for title, workflow in WORKFLOWS.items():
            with formatter.section(title):
                formatter.write_dl([(name, words) for name, (_, words) in workflow.items()], col_max=20)


@click.group(
    cls=LazyGroup,
    commands=[click.Command(name, short_help=words) for name, (_, words) in COMMANDS.items()],
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(package_name="dispersive-harness", message="%(version)s")
def cli() -> None:
    """Ablations of Dispersive Loss: plan a grid, run it here or on SLURM, and report it beside the paper's tables."""


def main() -> None:
    """Run the command line; what is the user's to mend is told in one line, and exits with 2."""
    _write_any_text()
    atexit.register(_leave_cycles)
    try:
        cli(standalone_mode=False, prog_name="harness")
    except UserError as error:
        _end(*map(str, error.args))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "harness":
            raise
        _end(f"this command needs the package '{error.name}': pip install -e '.[train]'")
    except OSError as error:
        _end(_refusal(error))
    except UnicodeEncodeError as error:
        line = error.object[: error.end].rpartition("\n")[2] + error.object[error.end :].partition("\n")[0]
        _end(f"'{cut(line)}': bytes that are not UTF-8, which nothing that is written could hold; rename the file")
    except click.exceptions.Abort:
        _end("Stopped. Run the same command again to go on.", code=STOPPED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(MISTAKE)
    except click.ClickException as error:
        command = context.command_path if (context := getattr(error, "ctx", None)) else "harness"
        words = " ".join(error.format_message().split()).rstrip(".")
        _end(f"{command}: {words}; '{command} --help' says what is legal")


def _write_any_text() -> None:
    """Let the output write what its encoding lacks as an escape, where it could only fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_cycles() -> None:
    """Let Python end without looking for cycles in all that a report leaves, for half a second.

    Where torch is loaded it looks: what is left makes a library of triton's say at the end what it misses.
    """
    if "torch" not in sys.modules:
        gc.freeze()


def _refusal(error: OSError) -> str:
    """Return what the system refuses, whatever asked for it: whose it is to mend is told, no traceback would help."""
    places = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if places:
        return f"{' → '.join(places)}: {error.strerror}"
    return f"the output or a file cannot be written or read: {error.strerror or one_line(error)}"


def _end(*lines: str, code: int = MISTAKE) -> None:
    """Print what is to be known, each in one line, and end."""
    _forget_output()
    for line in lines:
        click.echo(escape_controls(line), err=True)
    sys.exit(code)


def _forget_output() -> None:
    """Drop what the output could not take (a full disk), so that Python does not try again at its end and fail."""
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        with suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
