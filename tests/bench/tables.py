"""A table in a document, between two marks that stay."""
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
