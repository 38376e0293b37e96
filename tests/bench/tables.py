"""A table in a document, between two marks that stay."""
import re


def replace(path, name, text):
    """Puts `text` between `<!-- NAME: begin -->` and `<!-- NAME: end -->` of the file."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    with open(path, encoding="utf-8") as file:
        document = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{text}\n{end}", document, flags=re.S))
