"""Running bench_client and reading its report."""

import json
import subprocess

from .processes import die_with_parent


class ClientError(Exception):
    """The load client failed, or the server answered wrongly."""


def arguments_of(server, options):
    """Options are given as keyword arguments: pipeline=64, ops=["get", "set:2"], verify=True, setup=["..."]."""
    arguments = ["--port", str(server.port), "--server-pid", str(server.pid)]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if name == "ops":
            for operation in value:
                arguments += ["--op", operation]
        elif name == "setup":
            for command in value:
                arguments += ["--setup", command]
        elif value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            arguments += [flag, str(value)]
    return arguments


def parse(returncode, output, errors):
    if not output.startswith("{"):
        raise ClientError("bench_client: %s" % errors.strip()[-300:])
    report = json.loads(output)
    if returncode != 0:
        raise ClientError("wrong replies: %s mismatches, %s unexpected, first: %s" % (
            report["mismatches"], report["unexpected"], report.get("first_error")))
    return report


def run(program, server, timeout_s=600, allow_errors=False, **options):
    """Runs one load against a server and returns its report; wrong or (unless allowed) error replies are raised.

    program is the client's command line so far: a list.
    """
    command = program + arguments_of(server, options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s,
                          stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, check=False)
    report = parse(done.returncode, done.stdout, done.stderr)
    if report["errors"] > 0 and not allow_errors:
        raise ClientError("%s: %d error replies, first: %s" % (
            server.name, report["errors"], report.get("first_error")))
    if report["disconnects"] > 0 and not allow_errors:
        raise ClientError("%s closed %d connections" % (server.name, report["disconnects"]))
    return report


class Background:
    """A load that runs beside something else: start it, do the other thing, then finish()."""

    def __init__(self, program, server, **options):
        command = program + arguments_of(server, options)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=die_with_parent)

    def read_line(self):
        return self.process.stdout.readline()

    def finish(self, timeout_s=120):
        output, errors = self.process.communicate(timeout=timeout_s)
        return parse(self.process.returncode, output, errors)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
