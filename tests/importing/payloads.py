"""Hostile files, in the container of torch.save: each would make a marker file, if it ran."""

import io
import pickle
import struct
import zipfile

import torch


class Call:
    """Pickles as the call of a function: `module.name(*args)`."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


def opcodes(value):
    """Protocol 2 of pickle, written out: any name can be asked for, none has to exist here."""
    if isinstance(value, Call):
        return named(value) + opcodes(value.args) + b"R"
    if isinstance(value, Built):
        return opcodes(value.made) + opcodes(value.state) + b"b"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(opcodes, value)) + b"t"
    if isinstance(value, dict):
        pairs = b"".join(opcodes(key) + opcodes(part) for key, part in value.items())
        return b"}(" + pairs + b"u"
    if isinstance(value, type(None)):
        return b"N"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value
    if isinstance(value, Name):
        return named(value)
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


class Name:
    """Pickles as a name alone: `module.name`."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Built:
    """Pickles as an object to which a state is given."""

    def __init__(self, made, state):
        self.made, self.state = made, state


def named(value):
    return f"c{value.module}\n{value.name}\n".encode()


def as_zip(path, data):
    """The container of torch.save since 1.6 around these opcodes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + data + b".")
        archive.writestr("archive/version", "3\n")
    return path


def as_legacy(path, data):
    """The container before 1.6."""
    out = io.BytesIO()
    torch.save({}, out, _use_new_zipfile_serialization=False)
    parts = out.getvalue().split(b".")
    head = b".".join(parts[:3]) + b"."
    path.write_bytes(head + b"\x80\x02" + data + b"." + pickle.dumps([], 2))
    return path


def payloads(marker):
    """name of the global that is asked for -> a value to be pickled."""
    touch, code = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    opened = Call("io", "open", str(marker), "w")
    return {
        "posix.system": Call("posix", "system", touch),
        "os.system": Call("os", "system", touch),
        "nt.system": Call("nt", "system", touch),
        "subprocess.Popen": Call("subprocess", "Popen", ("touch", str(marker))),
        "builtins.exec": Call("builtins", "exec", code),
        "builtins.eval": Call("__builtin__", "eval", code),
        "builtins.getattr": Call("builtins", "getattr", opened, "close"),
        "builtins.__import__": Call("builtins", "__import__", "os"),
        "builtins.open": Call("builtins", "open", str(marker), "w"),
        "io.open": opened,
        "pty.spawn": Call("pty", "spawn", ("touch", str(marker))),
        "importlib.import_module": Call("importlib", "import_module", "antigravity"),
        "runpy.run_path": Call("runpy", "run_path", str(marker)),
        "shutil.rmtree": Call("shutil", "rmtree", str(marker.parent)),
        "torch.hub.load": Call("torch.hub", "load", "some/repo", "net"),
        "torch.load": Call("torch", "load", str(marker)),
        "torch.serialization.load": Call("torch.serialization", "load", str(marker)),
        "operator.attrgetter": Call("operator", "attrgetter", "system"),
        "functools.partial": Call("functools", "partial", Name("posix", "system"), touch),
        "types.FunctionType": Call("types", "FunctionType", None, {}),
        "types.CodeType": Call("types", "CodeType", 0),
        "ctypes.CDLL": Call("ctypes", "CDLL", "libc.so.6"),
        "argparse.FileType": Call("argparse", "FileType", "w"),
        "argparse._sys.modules": Name("argparse", "_sys.modules"),
        "pickle.loads": Call("pickle", "loads", pickle.dumps(1, 2)),
        "torch.storage._load_from_bytes": Call("torch.storage", "_load_from_bytes", b"nested"),
        "numpy.load": Call("numpy", "load", str(marker)),
        "maskgit.stopping.stopped": Call("maskgit.stopping", "stopped"),
    }


def taken_for_objects(marker):
    """What stand-ins swallow: calls of classes, and states that would run or overwrite."""
    state = {"__class__": "other", "__setstate__": 1, "path": str(marker)}
    namespace = Call("argparse", "Namespace")
    return {
        "a call of a foreign class": Call("evil.tools", "Popen", f"touch {marker}"),
        "a class of a script": Call("__main__", "Config", f"touch {marker}"),
        "a state": Built(Call("foreign", "Callback"), state),
        "a state that is a pair": Built(Call("foreign", "Callback"), (state, {"x": 1})),
        "a namespace": Built(namespace, {"run": Call("foreign", "Run", f"touch {marker}")}),
        "a namespace's own dict": Built(namespace, {"__dict__": {"__reduce__": "x"}}),
        "many arguments": Call("foreign", "Callback", *range(20_000)),
        "a path": Call("pathlib", "PosixPath", "/", "etc", "passwd"),
    }
