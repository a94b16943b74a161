"""The arrows between files: who includes whom, and who calls whom without including it.

A module is a source file and its header. It points to another when it includes the other's header, directly or through a header
that has no source of its own, or when its object file needs a symbol that the other's defines: `nm` on the objects of build/dev
says so exactly, whatever the sources look like. A weak reference is no arrow: that is how a lower module lists what a higher one
registers with it (the table of commands, say).

Two rules: no circle between modules, and no arrow that runs up, neither between the top folders nor between the rooms of server/.
Sources that lie in server/ itself are its highest level.
"""

import os
import re
import subprocess

BUILD = "build/dev"
PREPARE = "cmake --preset dev && cmake --build --preset dev --target slotwise-server"
FOLDERS = {"engine": 0, "replication": 1, "cluster": 2, "server": 3}
# From the bottom up. Two rooms of one level do not know each other.
ROOMS = [("base",), ("config",), ("resp",), ("net",), ("dispatch",), ("persistence",), ("scripting", "links"), ("clients",), ("commands",)]
ROOM_LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
SHOWN_SYMBOLS = 6


class NotBuilt(Exception):
    """There are no object files, or they are older than their sources."""


def module_of(path):
    return path[:-2]


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def object_of(root, source):
    """The object file of a source, which CMake puts below the folder of the target that it belongs to."""
    targets = os.path.join(root, BUILD, "CMakeFiles")
    for target in sorted(os.listdir(targets)) if os.path.isdir(targets) else []:
        path = os.path.join(targets, target, source + ".o")
        if target.endswith(".dir") and os.path.exists(path):
            if os.path.getmtime(path) < os.path.getmtime(os.path.join(root, source)):
                raise NotBuilt(f"{source} is newer than its object file")
            return path
    raise NotBuilt(f"{source} has no object file in {BUILD}")


def symbols_of(path):
    """(defined, needed): {symbol: is it weak?} and a set."""
    output = subprocess.run(["nm", "--format=posix", path], capture_output=True, text=True, check=True).stdout
    defined, needed = {}, set()
    for line in output.splitlines():
        name, kind = line.split()[:2]
        if kind == "U":
            needed.add(name)
        elif kind.isupper():
            defined[name] = kind in "WV"
    return defined, needed


def add_includes(root, sources, headers, arrows):
    """Adds {(module, module): {"includes x.h"}}."""
    modules = {module_of(source) for source in sources}
    included = {path: [name for name in INCLUDE.findall(read(root, path)) if name in headers]
                for path in list(sources) + list(headers)}

    def reached(path, seen):
        for header in included[path]:
            if module_of(header) in modules:
                yield header
            elif header not in seen:
                seen.add(header)
                yield from reached(header, seen)

    for path in included:
        for header in reached(path, set()) if module_of(path) in modules else ():
            if module_of(header) != module_of(path):
                arrows.setdefault((module_of(path), module_of(header)), set()).add("includes " + header)


def add_calls(root, sources, arrows):
    """Adds {(module, module): {symbol}}."""
    owners, needs = {}, {}
    for source in sources:
        defined, needs[source] = symbols_of(object_of(root, source))
        for name, weak in defined.items():
            if name not in owners or not weak:  # the definition that the linker takes
                owners[name] = source
    for source, names in needs.items():
        for name in names:
            owner = owners.get(name)
            if owner is not None and owner != source:
                arrows.setdefault((module_of(source), module_of(owner)), set()).add(name)


def components(arrows):
    """The strongly connected components of more than one module (Tarjan, without recursion)."""
    graph = {}
    for source, target in arrows:
        graph.setdefault(source, []).append(target)
        graph.setdefault(target, [])
    index, low, stack, on_stack, found = {}, {}, [], set(), []
    for start in sorted(graph):
        work = [(start, iter(sorted(graph[start])))] if start not in index else []
        while work:
            node, targets = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            for target in targets:
                if target not in index:
                    work.append((target, iter(sorted(graph[target]))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    component, stack[at:] = stack[at:], []
                    on_stack.difference_update(component)
                    if len(component) > 1:
                        found.append(sorted(component))
    return found


def level_of(module, rooms):
    """(level of the folder, level of the room, name for messages)."""
    folder, _, rest = module.partition("/")
    if folder != "server":
        return FOLDERS[folder], 0, folder + "/"
    room = rooms.get(module) or (rest.split("/")[0] if "/" in rest else "")
    return FOLDERS[folder], ROOM_LEVELS.get(room, len(ROOMS)), f"server/{room}/" if room else "server/"


def runs_up(source, target, rooms):
    """Why the arrow may not be, or None."""
    own, other = level_of(source, rooms), level_of(target, rooms)
    if own[:2] < other[:2]:
        return f"{own[2]} points up to {other[2]}"
    if own[:2] == other[:2] and own[2] != other[2]:
        return f"{own[2]} and {other[2]} do not know each other"
    return None


def tie(reasons):
    """What makes an arrow: symbols first, then includes."""
    names = sorted(reasons, key=lambda name: (name.startswith("includes "), name))
    more = f" and {len(names) - SHOWN_SYMBOLS} more" if len(names) > SHOWN_SYMBOLS else ""
    return ", ".join(names[:SHOWN_SYMBOLS]) + more


def check(root, files, rooms=None):
    """The findings. `rooms` places modules that still lie in server/ itself: {module: room}."""
    rooms = rooms or {}
    ours = [path for path in files if path.split("/")[0] in FOLDERS]
    sources = sorted(path for path in ours if path.endswith(".c"))
    headers = {path for path in ours if path.endswith(".h")}
    arrows = {}
    try:
        add_calls(root, sources, arrows)
    except (NotBuilt, FileNotFoundError) as error:
        return [f"{error}: {PREPARE}"]
    add_includes(root, sources, headers, arrows)
    findings = []
    for circle in components(arrows):
        findings.append(f"{circle[0]}.c:1: a circle of {len(circle)} modules: {' '.join(circle)}")
        findings += [f"    {source} -> {target}: {tie(reasons)}" for (source, target), reasons in sorted(arrows.items())
                     if source in circle and target in circle]
    for (source, target), reasons in sorted(arrows.items()):
        fault = runs_up(source, target, rooms)
        if fault:
            findings.append(f"{source}.c:1: {fault}: {source} -> {target}: {tie(reasons)}")
    return findings


def read_rooms(path):
    """Lines of `room: name name ...`, the names without folder and ending."""
    rooms = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            room, _, names = line.partition(":")
            rooms.update({"server/" + name: room.strip() for name in names.split()})
    return rooms
