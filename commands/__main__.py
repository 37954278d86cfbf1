"""The program `gan`: finds the command that was asked for and loads that one alone, so that `gan --help` is there at once."""

import getpass
import importlib
import os
import signal
import sys

import click

from gan.errors import is_users, one_line
from gan.kernels import pin_numpy

# name -> (where it stands, what `gan --help` says of it)
COMMANDS = {
    "sets": ("commands.sets:sets", "List the named sets of parameters."),
    "use": ("commands.sets:use", "Switch params.yaml to a named set."),
    "check": ("commands.check:check", "Check the whole of params.yaml."),
    "draw": ("commands.draw:draw", "Draw digits with the trained generator."),
    "flow": ("commands.flow:flow", "Run the pipeline once, as a Prefect flow."),
    "schedule": ("commands.schedule:schedule", "Run the pipeline on a schedule."),
    "study": ("commands.study:study", "Compare variants over many runs, with their uncertainty."),
    "live": ("commands.live:live", "Watch training in TensorBoard."),
    "report-change": ("commands.report_change:report_change", "Report what a change does, for its review."),
    "worker": ("commands.worker:worker", "Take runs from a Prefect server."),
    "deploy": ("commands.deploy:deploy", "Put the pipeline on a Prefect server."),
    "doctor": ("commands.doctor:doctor", "Say whether all can be left alone."),
    "maintain": ("commands.maintain:maintain", "Let go what is no longer needed."),
    "server": ("commands.server:server", "Run Prefect's server, back it up, restore it."),
    "restore": ("commands.restore:restore", "Bring back results after a stopped `dvc repro`."),
    "verify": ("commands.verify:verify", "Look for damaged files in DVC's cache."),
    "versions": ("commands.versions:versions", "List, show, compare and prune recorded runs."),
}


class LazyGroup(click.Group):
    """A group of COMMANDS, each of which is imported when it is called."""

    def list_commands(self, context):
        return list(COMMANDS)

    def get_command(self, context, name):
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, context, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def gan():
    """Train a GAN reproducibly: parameters, runs, schedules, versions. The stages themselves run by `dvc repro`.

    Run it in the project's root. `gan COMMAND --help` says more of each.
    """


def main():
    """Run the program and exit: 0 done, 1 an error that the user can mend, 2 wrong usage, 130 stopped by Ctrl-C."""
    _open_standard_streams()
    _name_the_user()
    pin_numpy()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as this package had it; a shell's background job ignores it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = gan(prog_name="gan", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.message = one_line(error.message)
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except MemoryError:
        code = "gan: not enough memory; end other programs or use another machine"
    except Exception as error:
        if is_users(error):
            code = f"gan: {error}"
        elif _says_interrupt(error):
            code = 130
        else:
            raise
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done and said: what libraries do at the end may be cut off
    sys.exit(code)


def _open_standard_streams():
    """Let nothing else become descriptor 0, 1 or 2 where a shell has closed it: a pipe to a child process would lose its end."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _name_the_user():
    """Give DVC a name for this user: one without an entry in the system's list, as in many a container, has a number alone."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def _says_interrupt(error):
    """Whether an error is what a library has made of Ctrl-C, as Pydantic's compiled part does, which keeps the text alone."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
