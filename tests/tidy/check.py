#!/usr/bin/python3
"""The tidy check: what a reviewer should never have to say twice.

    tests/tidy/check.py [arrows|sizes|format|words|headers|scripts|calls ...]
    tests/tidy/check.py calls --rooms FILE   the same as if what lies in server/ were in these rooms ("room: name name ...")
    tests/tidy/check.py --tighten      lowers or drops entries of ratchet.txt that are larger than needed

calls looks for circles and upward arrows over includes and calls and needs the objects of build/dev (calls.py).

It looks at the files that git knows or would add, prints each finding as file:line: message, and ends in
"tidy: N passed, N failed" with one check each counted. ratchet.txt beside it lists the accepted exceptions to the
size limits; an entry may only shrink: what outgrows its entry fails, and so does an entry that is no longer needed.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True

import calls  # noqa: E402

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
RATCHET = "tests/tidy/ratchet.txt"
MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 70
RATCHET_SLACK = 1.1  # an entry may stay this much above what it excepts, so that each small edit need not touch it

# The higher may include the lower; the two at the top do not know each other.
LEVELS = {"engine": 0, "replication": 1, "cluster": 2, "server": 3, "bench": 4, "tests": 4}
GENERATED_HEADERS = {"slotwise_version.h"}
# engine/ has no sockets and no event loop.
ENGINE_FORBIDDEN = re.compile(r"^(sys/socket\.h|sys/un\.h|sys/epoll\.h|netinet/.*|arpa/inet\.h|netdb\.h|liburing.*)$")

# Unfinished business belongs in an issue, and the repository speaks of the program only. Assembled from pieces, since
# this file is checked as well.
FORBIDDEN_WORDS = [
    (re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX"]) + r")\b"), "unfinished business belongs in an issue"),
    (re.compile(r"\b(" + "|".join(["ag" "ents?", "l" "lms?", "chat" "gpt", "open" "ai", "anth" "ropic", "clau" "de",
                                   "copi" "lot", "language mo" "dels?"]) + r")\b", re.IGNORECASE),
     "the repository speaks of the program, not of the tools that wrote it"),
    (re.compile(r"\b(A" "I)\b"), "the repository speaks of the program, not of the tools that wrote it"),
    (re.compile(r"\b(this|previous|next|last|earlier|later|another) (working |coding )?ses" "sions?\\b", re.IGNORECASE),
     "the repository speaks of the program, not of how it was written"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def listed_files():
    """Paths relative to the root: everything that git tracks or would add; without git, everything but build/."""
    command = ["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if os.path.exists(os.path.join(ROOT, ".git")):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return sorted({path for path in result.stdout.split("\0") if path and os.path.isfile(in_root(path))})
    found = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if name not in ("build", ".git", "__pycache__")]
        found += [os.path.relpath(os.path.join(folder, name), ROOT) for name in names]
    return sorted(found)


def in_root(path):
    return os.path.join(ROOT, path)


def read_lines(path):
    with open(in_root(path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def is_c(path):
    return path.endswith((".c", ".h"))


def interpreter(path):
    """What a script says runs it: bash, sh, python3 or nothing."""
    with open(in_root(path), "rb") as file:
        first = file.readline(200)
    match = re.match(rb"#!\s*\S*?/(?:env\s+)?(bash|sh|python3)\b", first)
    return match.group(1).decode() if match else ""


def is_shell(path):
    return path.endswith(".sh") or interpreter(path) in ("bash", "sh")


def is_python(path):
    return path.endswith(".py") or interpreter(path) == "python3"


def folder_of(path):
    return path.split("/", 1)[0] if "/" in path else ""


# --- arrows ----------------------------------------------------------------------------------------------------------


def arrow_fault(path, name):
    """Why the file may not include the header "name", or None."""
    own, other = folder_of(path), folder_of(name)
    if name in GENERATED_HEADERS:
        return None
    if other not in LEVELS:
        return f'"{name}" is not a path from the root of the repository'
    if not os.path.isfile(in_root(name)):
        return f'"{name}" does not exist'
    if own == other:
        return None
    if own not in LEVELS:
        return None
    if LEVELS[other] >= LEVELS[own]:
        return f"{own}/ includes {name}: arrows point down only"
    if own == "tests":
        return None  # a unit test may look inside the part that it tests
    if (name.count("/") > 1 and not name.startswith("engine/types/")) or re.search(r"_(private|internal)\.h$", name):
        return f"{own}/ includes {name}, which is private to {other}/"
    return None


def check_arrows(files):
    findings = []
    for path in filter(is_c, files):
        for number, line in enumerate(read_lines(path), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            fault = None
            if match.group(1) == '"':
                fault = arrow_fault(path, match.group(2))
            elif folder_of(path) == "engine" and ENGINE_FORBIDDEN.match(match.group(2)):
                fault = f"engine/ has no sockets, yet includes <{match.group(2)}>"
            if fault:
                findings.append(f"{path}:{number}: {fault}")
    return findings


# --- sizes -----------------------------------------------------------------------------------------------------------


def file_sizes(files):
    for path in files:
        if is_c(path) or is_shell(path) or is_python(path):
            yield path, 1, len(read_lines(path))


def function_sizes(files):
    """(path:function, first line, number of lines) of every C function."""
    sources = [path for path in files if is_c(path)]
    if not sources:
        return
    command = ["ctags", "--options=NONE", "--languages=C", "--langmap=C:.c.h", "--kinds-C=f", "--fields=+ne",
               "--output-format=json", "-f", "-", "-L", "-"]
    result = subprocess.run(command, input="\n".join(sources), capture_output=True, text=True, cwd=ROOT, check=True)
    for line in result.stdout.splitlines():
        tag = json.loads(line)
        if "end" in tag:
            yield f"{tag['path']}:{tag['name']}", tag["line"], tag["end"] - tag["line"] + 1


def read_ratchet():
    """{(kind, name): (lines, reason)}; a line of the file is: file|function <name> <lines> <reason>."""
    entries = {}
    if not os.path.exists(in_root(RATCHET)):
        return entries
    for number, line in enumerate(read_lines(RATCHET), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 3)
        if len(words) < 4 or words[0] not in ("file", "function") or not words[2].isdigit():
            sys.exit(f"{RATCHET}:{number}: expected: file|function <name> <lines> <reason>")
        entries[words[0], words[1]] = int(words[2]), words[3]
    return entries


def measure(files):
    """{(kind, name): (first line, lines)}; the longest where conditional compilation makes several of one name."""
    sizes = {}
    for kind, measured in (("file", file_sizes(files)), ("function", function_sizes(files))):
        for name, line, lines in measured:
            if lines > sizes.get((kind, name), (0, 0))[1]:
                sizes[kind, name] = line, lines
    return sizes


def check_sizes(files):
    if not shutil.which("ctags"):
        return ["ctags is missing (Debian package universal-ctags)"]
    findings = []
    limits = {"file": MAX_FILE_LINES, "function": MAX_FUNCTION_LINES}
    ratchet = read_ratchet()
    sizes = measure(files)
    for (kind, name), (line, lines) in sizes.items():
        allowed = max(limits[kind], ratchet.get((kind, name), (0, ""))[0])
        if lines > allowed:
            path, _, function = name.partition(":")
            findings.append(f"{path}:{line}: {kind} {function} has {lines} lines, at most {allowed}".replace("  ", " "))
    for (kind, name), (allowed, _reason) in ratchet.items():
        lines = sizes.get((kind, name), (0, 0))[1]
        if lines <= limits[kind]:
            findings.append(f"{RATCHET}: {kind} {name} needs no exception any more: --tighten")
        elif allowed > lines * RATCHET_SLACK:
            findings.append(f"{RATCHET}: {kind} {name} shrank to {lines}, its entry says {allowed}: --tighten")
    return findings


def tighten(files):
    limits = {"file": MAX_FILE_LINES, "function": MAX_FUNCTION_LINES}
    sizes = measure(files)
    kept = [line for line in read_lines(RATCHET) if line.startswith("#")]
    for (kind, name), (allowed, reason) in read_ratchet().items():
        lines = sizes.get((kind, name), (0, 0))[1]
        if lines > limits[kind]:
            kept.append(f"{kind} {name} {min(lines, allowed)} {reason}")
    with open(in_root(RATCHET), "w", encoding="utf-8") as file:
        file.write("\n".join(kept) + "\n")


# --- format, words, headers, scripts ---------------------------------------------------------------------------------


def check_format(files):
    sources = [path for path in files if is_c(path)]
    if not sources:
        return []
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not program:
        return ["clang-format is missing"]
    result = subprocess.run([program, "--dry-run", "-Werror", *sources], capture_output=True, text=True, cwd=ROOT,
                            check=False)
    findings = sorted({line.split(": error:")[0] for line in result.stderr.splitlines() if ": error:" in line})
    if result.returncode and not findings:
        return [result.stderr.strip() or "clang-format failed"]
    by_file = {}
    for place in findings:
        path, line = place.split(":")[:2]
        by_file.setdefault(path, []).append(int(line))
    return [f"{path}:{min(lines)}: not formatted ({len(lines)} places): clang-format -i {path}"
            for path, lines in by_file.items()]


def check_words(files):
    findings = []
    for path in files:
        if path.startswith("tests/fuzz/corpus/"):
            continue
        with open(in_root(path), "rb") as file:
            content = file.read()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            for pattern, reason in FORBIDDEN_WORDS:
                match = pattern.search(line)
                if match:
                    findings.append(f"{path}:{number}: '{match.group(0)}': {reason}")
    return findings


def opens_with_comment(path):
    lines = [line for line in read_lines(path) if line.strip() and not line.startswith("#!")]
    if not lines:
        return True  # an empty __init__.py has nothing to explain
    if is_c(path):
        return lines[0].startswith(("/*", "//"))
    return lines[0].startswith(("#", '"""', "'''", 'r"""'))


def check_headers(files):
    return [f"{path}:1: a file opens with a comment: what it is, its invariants, who runs it"
            for path in files if (is_c(path) or is_shell(path) or is_python(path)) and not opens_with_comment(path)]


def check_scripts(files):
    findings = []
    for path in files:
        script = interpreter(path)
        if is_shell(path):
            result = subprocess.run(["bash", "-n", in_root(path)], capture_output=True, text=True, check=False)
            findings += [line.replace(ROOT + "/", "") for line in result.stderr.splitlines()]
        elif is_python(path):
            try:
                ast.parse("\n".join(read_lines(path)), path)
            except SyntaxError as error:
                findings.append(f"{path}:{error.lineno}: {error.msg}")
        if script and not path.endswith(".py") and not os.access(in_root(path), os.X_OK):
            findings.append(f"{path}:1: has an interpreter line but is not executable")
    return findings


def check_calls(files):
    return calls.check(ROOT, files, calls.read_rooms(OPTIONS["rooms"]) if "rooms" in OPTIONS else None)


OPTIONS = {}
CHECKS = {
    "arrows": check_arrows,
    "sizes": check_sizes,
    "format": check_format,
    "words": check_words,
    "headers": check_headers,
    "scripts": check_scripts,
    "calls": check_calls,
}


def main(arguments):
    files = listed_files()
    if arguments == ["--tighten"]:
        tighten(files)
        return 0
    if len(arguments) > 1 and arguments[-2] == "--rooms":
        OPTIONS["rooms"] = arguments[-1]
        arguments = arguments[:-2]
    unknown = [name for name in arguments if name not in CHECKS]
    if unknown:
        print(__doc__, file=sys.stderr)
        return 2
    failed = 0
    chosen = arguments or list(CHECKS)
    for name in chosen:
        findings = CHECKS[name](files)
        failed += bool(findings)
        print(f"{'FAIL' if findings else 'ok  '} {name}")
        for finding in findings:
            print("    " + finding)
    print(f"tidy: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
