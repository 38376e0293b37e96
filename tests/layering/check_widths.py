#!/usr/bin/env python3
"""Fails where a line of a source is wider than .clang-format says, naming every one; what stands in a raw string is data. check_widths.py FOLDER, or --self-check."""
import pathlib
import re
import sys
import tempfile

FOLDERS = ("capi", "cuda", "examples", "include", "src", "tests")
ENDINGS = {".c", ".cc", ".cu", ".h"}


def most_columns(root):
    (columns,) = re.findall(r"^ColumnLimit: (\d+)$", (root / ".clang-format").read_text(encoding="utf-8"), re.MULTILINE)
    return int(columns)


def too_wide(text, most):
    """The numbers of lines that are wider and lie in no raw string."""
    end = None  # of the raw string that is open
    for number, line in enumerate(text.split("\n"), 1):
        begun_inside = end is not None
        rest = line
        while True:
            if end is None:
                begin = re.search(r'R"([^()\\\s]{0,16})\(', rest)
                if begin is None:
                    break
                end, rest, begun_inside = f'){begin[1]}"', rest[begin.end():], True
            at = rest.find(end)
            if at < 0:
                break
            end, rest = None, rest[at + len(end):]
        if len(line) > most and not begun_inside:
            yield number


def check(root):
    most, checked, wide = most_columns(root), 0, []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in ENDINGS:
                checked += 1
                wide += [f"{path.relative_to(root)}:{number}" for number in too_wide(path.read_text(encoding="utf-8"), most)]
    for place in wide:
        print(f"{place}: wider than {most} columns")
    print(f"{checked} files, {len(wide)} lines too wide")
    return checked > 0 and not wide


def self_check():
    """It finds what is planted, and only that."""
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "src").mkdir()
        (root / ".clang-format").write_text("BasedOnStyle: Google\nColumnLimit: 20\n")
        planted = root / "src" / "a.cc"
        planted.write_text('int a = 1;\nauto b = R"(' + 30 * "x" + "\n" + 40 * "y" + ')";\nint c = 3;\n')
        fine = check(root)
        planted.write_text(planted.read_text() + "int d = " + 20 * "1" + ";\n")
        found = not check(root)
        planted.unlink()
        return fine and found and not check(root)  # nothing at all to look at is no success


if __name__ == "__main__":
    sys.exit(0 if (self_check() if sys.argv[1] == "--self-check" else check(pathlib.Path(sys.argv[1]))) else 1)
