"""A table in a document, between two marks that stay, and what stands in its cells."""
import math
import re
import tempfile


def replace(path, name, text):
    """Puts `text` between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of the file."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    with open(path, encoding="utf-8") as file:
        document = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", document, flags=re.S))


def make(options, measure, name):
    """Prints the table that measure(options, an empty folder) gives, and puts it into options.document, if there is one, in its place of that name."""
    with tempfile.TemporaryDirectory() as folder:
        text = measure(options, folder)
    print(text)
    if options.document:
        replace(options.document, name, text)


def recovered(of_chunks, bare_of_chunks):
    """1 - KL / KL of the bare one, with its error over chunks, which are the same for both."""
    n, every = len(bare_of_chunks), sum(bare_of_chunks)
    ratio = sum(of_chunks) / every
    error = math.sqrt(sum((a - ratio * b) ** 2 for a, b in zip(of_chunks, bare_of_chunks)) * n / max(1, n - 1)) / every
    return f"{100 * (1 - ratio):.0f} +- {100 * error:.0f} %"
