#!/usr/bin/env python3
"""The models that speed is compared on, and how they are made from the default one, once, into a folder. Standard library only.

models.py --model DEFAULT.gguf --folder FOLDER --quantize LLAMA_QUANTIZE [--python PYTHON] [--group speed|accuracy] [NAME ...]

Without names a whole group is made: 5.5 GB for speed, 2.9 GB for accuracy, and up to 2.7 GB more meanwhile. PYTHON has numpy and gguf. A
model appears whole or not at all; one whose recipe has changed since is made again.
"""
import argparse
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass(frozen=True)
class Made:
    """How a file comes about: `script` of this folder or llama-quantize, applied to `base` (another name here, or "default")."""
    base: str
    tool: str  # "widen.py", "experts.py", "random_llama.py", "to_float32.py" or "quantize"
    words: tuple = ()
    megabytes: int = 0

    def recipe(self):
        return " ".join((self.tool, self.base, *self.words))


# Needed on the way only.
BASES = {
    "default-f32": Made("default", "to_float32.py", (), 540),
    "random-f16": Made("default", "random_llama.py", (), 2150),
    # Rows of 2304: the default model's function in formats whose blocks are 256 long.
    "hidden-f16": Made("default", "widen.py", ("--hidden", "4", "--type", "f16"), 1716),
}
# What speed is measured on, in the order in which the files are made. "default" is the default model itself, in Q4_1.
SPEED = {
    "widened-q4_1": Made("default", "widen.py", ("--ffn", "16"), 845),
    "widened-f16": Made("default", "widen.py", ("--ffn", "8", "--type", "f16"), 1386),
    "default-q8_0": Made("default-f32", "quantize", ("Q8_0",), 145),
    "default-q4_0": Made("default-f32", "quantize", ("Q4_0",), 78),
    "random-q4_0": Made("random-f16", "quantize", ("Q4_0",), 606),
    "random-q4_k": Made("random-f16", "quantize", ("Q4_K",), 606),
    "random-q6_k": Made("random-f16", "quantize", ("Q6_K",), 883),
    "random-q2_k": Made("random-f16", "quantize", ("Q2_K",), 354),
    "random-iq4_nl": Made("random-f16", "quantize", ("IQ4_NL",), 606),
}
# Not of a group: what streaming experts is measured on.
MIXTURES = {"experts-q4_1": Made("default", "experts.py", ("--experts", "32", "--top", "2"), 1643)}
# What distance from float32 is measured on, besides "default", "default-q8_0" and "default-q4_0".
ACCURACY = {
    **{name: SPEED[name] for name in ("default-q8_0", "default-q4_0")},
    "default-f16": Made("default-f32", "quantize", ("F16",), 270),
    "default-bf16": Made("default-f32", "quantize", ("BF16",), 270),
    **{f"default-{kind.lower()}": Made("default-f32", "quantize", (kind,), megabytes)
       for kind, megabytes in (("Q5_0", 95), ("Q5_1", 103), ("IQ4_NL", 78))},
    **{f"hidden-{kind.lower()}": Made("hidden-f16", "quantize", (kind,), megabytes)
       for kind, megabytes in (("Q2_K", 283), ("Q3_K", 370), ("Q4_K", 484), ("Q5_K", 591), ("Q6_K", 705), ("IQ4_XS", 457), ("MXFP4_MOE", 457))},
}
GROUPS = {"speed": SPEED, "accuracy": ACCURACY}
MODELS = {**SPEED, **ACCURACY, **MIXTURES}


def path(folder, name, default):
    return default if name == "default" else os.path.join(folder, f"{name}.gguf")


def is_made(folder, name, made):
    """The file is there, and its note says that this recipe made it."""
    try:
        with open(os.path.join(folder, f"{name}.recipe"), encoding="utf-8") as note:
            return note.read() == made.recipe() and os.path.exists(os.path.join(folder, f"{name}.gguf"))
    except FileNotFoundError:
        return False


def bases_of(names):
    return [base for base in BASES if any(MODELS[name].base == base for name in names)]


def make(name, made, options):
    """Makes one file beside its place and moves it there; the note goes first, so that it never vouches for an older file."""
    note = os.path.join(options.folder, f"{name}.recipe")
    if os.path.exists(note):
        os.remove(note)
    print(f"models: making {name}, {made.megabytes} MB: {made.recipe()}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="make.") as folder:
        source, target = path(options.folder, made.base, options.model), os.path.join(folder, "model.gguf")
        if made.tool == "quantize":
            command = [options.quantize, "--pure", source, target, *made.words]
        else:
            command = [options.python, os.path.join(HERE, made.tool), source, target, *made.words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"models: `{' '.join(command)}` ended with {done.returncode}:\n{done.stdout.strip()[-2000:]}")
        os.replace(target, path(options.folder, name, options.model))
    with open(note, "w", encoding="utf-8") as out:
        out.write(made.recipe())


def make_all(names, options):
    os.makedirs(options.folder, exist_ok=True)
    missing = [name for name in names if not is_made(options.folder, name, MODELS[name])]
    todo = {**{name: BASES[name] for name in bases_of(missing)}, **{name: MODELS[name] for name in missing}}
    need_bytes, free_bytes = sum(made.megabytes for made in todo.values()) * 1_000_000, shutil.disk_usage(options.folder).free
    if need_bytes > free_bytes:
        sys.exit(f"models: {options.folder} has {free_bytes / 1e9:.1f} GB free, need {need_bytes / 1e9:.1f} GB; free some or choose another folder")
    for name, made in todo.items():
        if not is_made(options.folder, name, made):
            make(name, made, options)
    for name in bases_of(missing):
        os.remove(os.path.join(options.folder, f"{name}.gguf"))
        os.remove(os.path.join(options.folder, f"{name}.recipe"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, metavar="FILE", help="the default model")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--quantize", required=True, metavar="TOOL", help="llama-quantize")
    parser.add_argument("--python", default=sys.executable, help="one with numpy and gguf")
    parser.add_argument("--group", choices=GROUPS, default="speed", help="what is made without names")
    parser.add_argument("names", nargs="*", default=[], help=", ".join(MODELS))
    options = parser.parse_args()
    names = options.names or list(GROUPS[options.group])
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    make_all(names, options)


if __name__ == "__main__":
    main()
