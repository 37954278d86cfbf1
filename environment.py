"""Make an environment: `python environment.py FOLDER WHAT...` installs lock files, and this project where WHAT is a folder.

A lock file is installed as it stands, without a resolver, and every file's hash is checked. uv does it on all cores. It is told
what pip is configured with, since it reads none of that by itself, and is fetched by pip under a hash of its own. Where uv
cannot be had or fails, pip installs the same files. INSTALLER=pip, in the environment's variables, leaves uv out.

This runs before anything is installed, so it stands beside the lock files and needs Python's standard library alone.
"""

import ast
import contextlib
import os
import re
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

INSTALLER_LOCK = Path(__file__).resolve().parent / "requirements-installer.lock"
HASHED = ("--no-deps", "--require-hashes", "-r")
EDITABLE = ("--no-deps", "--no-build-isolation", "--editable")
# uv's own variables say where packages come from as well; only those that say how it works are left to it
KEPT_VARIABLES = ("UV_CACHE_DIR", "UV_LINK_MODE", "UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_BUILDS", "UV_CONCURRENT_INSTALLS")


def main(arguments):
    """Make the environment and install each thing in it; exits with one line if that fails, and with 130 on Ctrl-C."""
    if len(arguments) < 2:
        sys.exit("usage: python environment.py FOLDER (LOCK FILE | PROJECT'S FOLDER)...")
    folder, things = Path(arguments[0]), [Path(argument) for argument in arguments[1:]]
    try:
        make_environment(folder)
        uv = None if os.environ.get("INSTALLER") == "pip" else get_uv(folder)
        for thing in things:
            with unfinished(folder, thing) as again:
                install(folder, thing, uv, again=again)
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        sys.exit(f"{folder} is not ready: `{command}` failed for the reason above; mend that, or run `make clean` and try again")
    except PermissionError as error:
        sys.exit(f"{folder} is not ready: {error}; if another user made it, with sudo perhaps, have that user remove it first")
    except KeyboardInterrupt:
        sys.exit(130)


def make_environment(folder):
    """Make the virtual environment at `folder`, with pip, unless this version of Python has one there.

    One that the Makefile's mark says was made elsewhere, in a checkout that was copied or renamed, is made anew.
    """
    mark = folder / ".installed"
    moved = mark.exists() and mark.read_bytes() != os.fsencode(f"{Path.cwd()}\n")
    version = "import pip, sys; print(sys.version_info[:2])"
    try:
        found = subprocess.run([python_of(folder), "-c", version], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        found = None
    if moved or found != str(sys.version_info[:2]):
        print(f"making {folder} with Python {sys.version_info.major}.{sys.version_info.minor}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)


@contextlib.contextmanager
def unfinished(folder, thing):
    """Keep a mark in `folder` until the block ends without an error, and give whether the last one for `thing` did not.

    An installer that is killed may leave a package of which a part is missing, and the next one would take it for whole.
    """
    mark = folder / f".installing-{thing.resolve().name}"
    again = mark.exists()
    mark.touch()
    yield again
    mark.unlink()


def get_uv(folder):
    """uv's program in the environment at `folder`, installed there by pip; or None, and a line says that pip goes on alone."""
    uv = folder / "bin" / "uv"
    wanted = re.match(r"uv==(\S+)", INSTALLER_LOCK.read_text())[1]
    with contextlib.suppress(OSError):
        if subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout.split()[1:2] == [wanted]:
            return uv
    done = subprocess.run(pip_command(folder, *HASHED, INSTALLER_LOCK), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return uv
    say_that_pip_goes_on("uv cannot be had", done.stderr)
    return None


def install(folder, thing, uv, *, again):
    """Install `thing`, a lock file or the project's folder (in editable mode), with uv, or with pip where `uv` is None or fails.

    `again`: anew, even what seems to be there. Raises subprocess.CalledProcessError if pip fails too.
    """
    options = (*EDITABLE, thing) if thing.is_dir() else (*HASHED, thing)
    if uv is not None:
        # the project alone needs no index
        offline = ["--offline"], dict(os.environ)
        arguments, variables = offline if thing.is_dir() else uv_settings(pip_options(pip_configuration(folder)), os.environ)
        # pip goes on without its own; uv would fail
        if "UV_NO_CACHE" not in variables and not can_be_written(uv_cache(variables)):
            variables["UV_NO_CACHE"] = "1"
        if again:
            arguments.append("--reinstall")
        # Python writes bytecode by itself, when it first imports a module, unless it is told not to
        if os.environ.get("PYTHONDONTWRITEBYTECODE"):
            arguments.append("--compile-bytecode")
        command = [uv, "--quiet", "--no-config", "pip", "install", "--python", python_of(folder), *arguments, *options]
        try:
            subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
            return
        except subprocess.CalledProcessError as error:
            say_that_pip_goes_on("uv fails", error.stderr)
        except OSError as error:  # built for another machine, or not allowed to run
            say_that_pip_goes_on("uv does not start", str(error))
    subprocess.run(pip_command(folder, *(["--force-reinstall"] if again else []), *options), check=True)


def python_of(folder):
    return folder / "bin" / "python"


def pip_command(folder, *options):
    return [python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options]


def say_that_pip_goes_on(what, reason):
    reason = textwrap.shorten(reason, 300, placeholder=" ...")
    print(f"{what}, so pip installs alone, which takes a minute or two longer ({reason})", flush=True)


def pip_configuration(folder):
    """What `pip config list` prints: pip's files and variables as one."""
    command = [python_of(folder), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def pip_options(listing):
    """pip's options for `pip install`, as a dict of strings, from what `pip config list` prints.

    A line is a section, a key and the value as Python writes it, such as global.index-url='...'. Variables replace the section
    `install`, which replaces `global`; a value replaces another as a whole, even one of an option that may be given twice.
    """
    found = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in found and value:
            found[section][key.lower().replace("_", "-")] = ast.literal_eval(value)
    options = found["global"] | found["install"] | found[":env:"]
    if "default-timeout" in options:
        options["timeout"] = options.pop("default-timeout")
    return options


def uv_settings(options, environment):
    """uv's arguments and variables that say the same as pip's `options`, on top of the variables in `environment`.

    Addresses may hold passwords, so they go into variables, which other users of the machine cannot read. Constraints are left
    out: a lock file names one version of everything, and uv refuses a constraint without a hash beside one.
    """
    variables = {name: value for name, value in environment.items() if not name.startswith("UV_") or name in KEPT_VARIABLES}
    # pip takes the best version from all its indexes; uv by itself stays with the first index that has any
    arguments = ["--index-strategy", "unsafe-best-match"]
    if is_true(options.get("no-index")):
        arguments.append("--no-index")
    else:
        if options.get("index-url"):
            variables["UV_DEFAULT_INDEX"] = options["index-url"]
        if options.get("extra-index-url"):
            variables["UV_INDEX"] = " ".join(options["extra-index-url"].split())
    for place in map(os.path.expanduser, options.get("find-links", "").split()):
        path = place.removeprefix("file://")
        # pip warns of a missing folder, uv fails
        if "://" in path or Path(path).exists():
            arguments += ["--find-links", place]
    for option in ("only-binary", "no-binary"):
        for name in options.get(option, "").replace(",", " ").split():
            arguments += [f"--{option}", name]
    if is_true(options.get("no-cache-dir")):
        variables["UV_NO_CACHE"] = "1"
    for option, variable in (("timeout", "UV_HTTP_TIMEOUT"), ("retries", "UV_HTTP_RETRIES"), ("client-cert", "SSL_CLIENT_CERT")):
        if options.get(option):
            variables[variable] = options[option]
    if options.get("trusted-host"):
        variables["UV_INSECURE_HOST"] = " ".join(options["trusted-host"].split())
    if options.get("proxy"):
        proxy = options["proxy"] if "://" in options["proxy"] else f"http://{options['proxy']}"
        variables |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    # in pip's order
    certificates = options.get("cert") or environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if certificates:
        path = os.path.expanduser(certificates)
        variables["SSL_CERT_DIR" if os.path.isdir(path) else "SSL_CERT_FILE"] = path
    if has_system_certificates():
        variables["UV_SYSTEM_CERTS"] = "1"
    return arguments, variables


def uv_cache(variables):
    """The folder of uv's cache, as uv finds it in `variables`."""
    named = variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(variables.get("UV_CACHE_DIR") or os.path.join(named, "uv"))


def can_be_written(folder):
    """Whether this user may write to `folder`, which is made where it is not there: a user without a home cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def is_true(value):
    return str(value).lower() in ("1", "true", "yes", "on", "y", "t")


def has_system_certificates():
    """Whether the machine has certificate authorities of its own, among which a company's may be; a small container has none."""
    paths = ssl.get_default_verify_paths()
    file, folder = paths.cafile and Path(paths.cafile), paths.capath and Path(paths.capath)
    return sys.platform == "darwin" or bool(file and file.is_file() or folder and folder.is_dir() and any(folder.iterdir()))


if __name__ == "__main__":
    main(sys.argv[1:])
